"""The command line: the only Typer code. Heavy commands are reached by name, at call time.

Data on stdout, words on stderr. An error is one line on stderr and a documented exit code.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edge_fgr.errors import EdgeFgrError, ImageError, OutputError, UsageError
from edge_fgr.extras import add_to, inspect_graph
from edge_fgr.progress import progress, say

__all__ = ["app", "main"]

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


@app.command()
def classify(
    inputs: Annotated[
        list[str], typer.Argument(help="Files, folders (with -r), patterns, or - for stdin.")
    ],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A .onnx file or an embedded model's name.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("-k", "--top-k", min=1, help="Classes per image (default: 5; table: 1)."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda; never a silent fallback.")
    ] = "auto",
    form: Annotated[str, typer.Option("--format", help="table, json, jsonl or csv.")] = "table",
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Enter folders.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processors to use (default: all usable ones).")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(help="Region of interest: left,top,right,bottom as shares of 0 to 1."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Journal of a long run: what is in it is not computed again."),
    ] = None,
    cache: Annotated[
        bool, typer.Option(help="Keep the optimised graph: the next start is faster.")
    ] = True,
) -> None:
    """Classify images: a label from coarse to fine, with its probability."""
    from edge_fgr.classifier import Classifier
    from edge_fgr.parallel import cores
    from edge_fgr.pipeline import classify_files
    from edge_fgr.render import FORMATS, writer
    from edge_fgr.sources import expand

    if form not in FORMATS:
        raise UsageError(f"--format {form}: is none of {', '.join(FORMATS)}")
    region = _roi(roi)
    files = expand(inputs, recursive=recursive)
    alone = len(files) == 1 and not isinstance(files[0], EdgeFgrError)
    if len(files) == 1 and isinstance(files[0], EdgeFgrError):
        raise files[0]
    use = threads or cores()
    # One image alone: a pool of threads costs more than it saves, unless it was asked for.
    inner = threads or 1 if alone else 1
    classifier = Classifier.load(model, device=device, threads=inner, cache=cache)  # type: ignore[arg-type]
    if classifier.contract.target not in ("portable", "fp32") and classifier.device == "cpu":
        from edge_fgr.cpu import suits

        if reason := suits(classifier.contract.target):
            say(f"edge-fgr: warning: {reason}")
    if not alone:
        gc.enable()
    ranks = top_k or (1 if form == "table" else 5)
    ranks = min(ranks, len(classifier.contract.labels))
    journal = _journal(resume, classifier.model.digest, ranks, region)
    out = writer(form, sys.stdout, ranks=ranks, names=[f for f in files if isinstance(f, str)])
    failures: list[EdgeFgrError] = []
    # A bar and rows on one terminal would overwrite each other.
    show = len(files) > 1 and not sys.stdout.isatty()
    with progress(len(files), "classify", show=show) as advance:
        for record, error in classify_files(
            classifier,
            files,
            top_k=ranks,
            roi=region,
            workers=1 if alone else use,
            journal=journal,
        ):
            out.add(record)
            if error is not None:
                failures.append(error)
                if not alone:
                    say(f"edge-fgr: {_one_line(error)}")
            advance(1, "")
    out.close()
    sys.stdout.flush()
    if failures:
        if alone:
            raise failures[0]
        raise ImageError(
            f"{len(failures)} of {len(files)} images failed; all others are classified"
        )


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
        inspect_graph(model, form)
        return
    facts = card(open_model(model, device="cpu"))
    sys.stdout.write(to_line(facts) + "\n" if form == "json" else card_lines(facts))


add_to(app)


def _roi(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    from edge_fgr.contract import check_roi
    from edge_fgr.errors import ContractError

    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
        region = (left, top, right, bottom)
        check_roi(region)
    except (ValueError, ContractError):
        raise UsageError(
            f"--roi {text}: left,top,right,bottom are needed, left < right and top < bottom, "
            "each from 0 to 1"
        ) from None
    return region


def _journal(path: Path | None, digest: str, top_k: int, roi: object) -> Any:
    if path is None:
        return None
    from edge_fgr.records import Journal

    return Journal(path, {"model": digest, "top_k": top_k, "roi": roi})


def main() -> NoReturn:
    """Run the command line; the process ends here with a documented exit code."""
    debug = "--debug" in sys.argv[1:2]
    if not debug:  # libraries warn about EXIF and the like; our own lines say what matters
        warnings.simplefilter("ignore")
        if sys.argv[1:2] == ["classify"]:
            _mute_native_libraries()
    for stream in (sys.stdout, sys.stderr):
        # Names that are not valid UTF-8 come out as escapes, which JSON reads.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except EdgeFgrError as error:
        if debug:
            raise
        say(f"edge-fgr: {_one_line(error)}")
        code = error.exit_code
    except typer.TyperException as error:
        say(f"edge-fgr: {_one_line(error.format_message())}; try --help")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say("edge-fgr: interrupted")
        code = 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if debug:
            raise
        say(f"edge-fgr: output cannot be written ({error.strerror or error})")
        code = OutputError.exit_code
    except Exception as error:
        if debug:
            raise
        cause = _one_line(error) or type(error).__name__
        say(f"edge-fgr: a bug ({cause}); please report it with the output of edge-fgr --debug")
        code = EdgeFgrError.exit_code
    sys.exit(code or 0)


def _mute_native_libraries() -> None:
    """Keep descriptor 2, which libtiff and others print to, off the terminal; ours is a copy."""
    try:
        own, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
    except OSError:  # started without a stderr
        return
    sys.stderr = open(own, "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115


def _one_line(message: object) -> str:
    """One line without control characters: names of files may hold a terminal's commands."""
    line = " ".join(str(message).split())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
