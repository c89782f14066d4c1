"""The command line in Typer. Heavy commands are reached by name, at call time.

Data on stdout, words on stderr. ``start`` comes here for whatever it does not understand by itself.
"""

from __future__ import annotations

import inspect as inspection
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_fgr import (
    bench_command,
    classify_command,
    doctor_command,
    evaluate_command,
    extras,
    gallery_command,
    watch_command,
)
from edge_fgr.errors import UsageError
from edge_fgr.options import CLASSIFY, INPUTS, Option
from edge_fgr.progress import one_line, say

__all__ = ["app", "run"]

_INTERRUPTED = 130

app = typer.Typer(
    name="edge-fgr",
    help="Fine-grained image recognition, from photographs to a decision on a small device.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from edge_fgr import __version__

        typer.echo(f"edge-fgr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _classify(**arguments: Any) -> None:
    arguments["device_option"] = arguments["device_option"] or []
    classify_command.classify(**arguments)


def _declared(option: Option) -> inspection.Parameter:
    """Return what Typer reads an option from."""
    kind: Any = Path if option.kind == "path" else option.kind
    if option.many:
        kind = list[kind]
    if option.default is None:
        kind = kind | None
    flags = list(option.flags)
    if option.off:
        flags[-1] += f"/{option.off}"
    told = typer.Option(*flags, help=option.help, min=option.least)
    return inspection.Parameter(
        option.name,
        inspection.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[kind, told],
    )


def _as_declared() -> Any:
    """Return ``classify`` with the signature that ``options`` declares."""
    first = inspection.Parameter(
        "inputs",
        inspection.Parameter.KEYWORD_ONLY,
        annotation=Annotated[list[str], typer.Argument(help=INPUTS)],
    )
    parameters = [first, *map(_declared, CLASSIFY)]
    function: Any = _classify
    function.__signature__ = inspection.Signature(parameters)
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    function.__doc__ = (classify_command.classify.__doc__ or "").partition("\n")[0]
    return function


app.command("classify")(_as_declared())


@app.command()
def inspect(
    model: Annotated[str | None, typer.Argument(help="A .onnx file or an embedded model.")] = None,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    graph: Annotated[
        bool, typer.Option("--graph", help="Its operators, integer and float (extra: export).")
    ] = False,
) -> None:
    """Show what a model says about itself."""
    from edge_fgr.card import card, card_lines
    from edge_fgr.model import open_model
    from edge_fgr.records import to_line

    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    if graph:
        extras.inspect_graph(model, form)
        return
    facts = card(open_model(model, device="cpu"))
    sys.stdout.write(to_line(facts) + "\n" if form == "json" else card_lines(facts))


for _part in (
    gallery_command,
    watch_command,
    doctor_command,
    extras,
    evaluate_command,
    bench_command,
):
    _part.add_to(app)


def run() -> int:
    """Parse the process's arguments, run the command, and return its exit code.

    Raises:
        EdgeFgrError: of the command.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        code: int = app(standalone_mode=False) or 0
    except typer.TyperException as error:
        say(f"edge-fgr: {one_line(error.format_message())}; try --help")
        return error.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == _INTERRUPTED:  # Typer says nothing of it
        raise KeyboardInterrupt
    return code
