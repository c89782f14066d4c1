"""The options of ``classify``, declared once; and a parser for command lines that are plain.

A cold start is a feature, and importing Typer is a seventh of it. A command line that this parser
understands in full needs no Typer; all others (help, mistakes, other commands) are Typer's, which
reads the same declarations. What is parsed here, Typer parses alike: tests compare both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

__all__ = ["CLASSIFY", "FORMATS", "INPUTS", "Format", "Option", "parse"]

Format = Literal["table", "json", "jsonl", "csv"]
FORMATS: tuple[Format, ...] = ("table", "json", "jsonl", "csv")


class Option(NamedTuple):
    """One option. It is no dataclass because that module takes 4 ms of a start.

    Attributes:
        name: the argument that it becomes.
        flags: how it is written, the long form last.
        kind: ``str``, ``int``, ``float``, ``bool`` or ``"path"``.
        help: for people.
        default: what stands for it when it is not given.
        least: smallest number.
        off: for a ``bool``: how it is turned off.
        many: it may be given more than once; all are kept.
    """

    name: str
    flags: tuple[str, ...]
    kind: Any
    help: str
    default: Any = None
    least: int | None = None
    off: str = ""
    many: bool = False


INPUTS: Final = "Files, folders (with -r), patterns, or - for stdin."

CLASSIFY: Final = (
    Option("model", ("-m", "--model"), str, "A .onnx file or an embedded model's name."),
    Option("top_k", ("-k", "--top-k"), int, "Classes per image (default: 5; table: 1).", least=1),
    Option("device", ("--device",), str, "What runs it; never a silent fallback.", "auto"),
    Option(
        "device_option",
        ("--device-option",),
        str,
        "KEY=VALUE for the device's provider; may be repeated (docs/devices.md).",
        many=True,
    ),
    Option("form", ("--format",), str, "table, json, jsonl or csv.", "table"),
    Option("recursive", ("-r", "--recursive"), bool, "Enter folders.", default=False),
    Option(
        "threads", ("--threads",), int, "Processors to use (default: all usable ones).", least=1
    ),
    Option(
        "roi",
        ("--roi",),
        str,
        "Region of interest: left,top,right,bottom as shares of 0 to 1.",
    ),
    Option(
        "resume",
        ("--resume",),
        "path",
        "Journal of a long run: what is in it is not computed again.",
    ),
    Option(
        "cache",
        ("--cache",),
        bool,
        "Keep the optimised graph: the next start is faster.",
        default=True,
        off="--no-cache",
    ),
    Option(
        "coverage",
        ("--coverage",),
        float,
        "Give the set of labels that holds the truth this often, such as 0.95.",
    ),
    Option("gallery", ("-g", "--gallery"), "path", "Classes that were enrolled (edge-fgr enroll)."),
    Option(
        "gate",
        ("--gate",),
        bool,
        "Exit code 1 where the model's operating point does not accept an image.",
        default=False,
    ),
    Option(
        "explain", ("--explain",), "path", "Folder for pictures of the evidence, one per image."
    ),
)
"""All options, in the order of the help."""


def parse(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Return the arguments of ``classify``; None where Typer should look at the command line.

    Args:
        arguments: what follows the program's name.
    """
    if not arguments or arguments[0] != "classify":
        return None
    known = {flag: option for option in CLASSIFY for flag in option.flags}
    off = {option.off: option for option in CLASSIFY if option.off}
    found: dict[str, Any] = {o.name: [] if o.many else o.default for o in CLASSIFY}
    inputs: list[str] = []
    rest = iter(arguments[1:])
    for word in rest:
        if word == "-" or not word.startswith("-"):
            inputs.append(word)
            continue
        if word in off:
            found[off[word].name] = False
            continue
        option = known.get(word)
        if option is None:
            return None
        if option.kind is bool:
            found[option.name] = True
            continue
        text = next(rest, None)
        if text is None or text.startswith("-"):
            return None
        value = _value(option, text)
        if value is None:
            return None
        if option.many:
            found[option.name].append(value)
        else:
            found[option.name] = value
    return {"inputs": inputs, **found} if inputs else None


def _value(option: Option, text: str) -> Any:
    """Return the value; None for one that Typer should complain of."""
    if option.kind is str:
        return text
    if option.kind == "path":
        from pathlib import Path

        return Path(text)
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None  # signs, exponents and the like are left to Typer
    try:
        value = option.kind(text)
    except ValueError:
        return None
    return None if option.least is not None and value < option.least else value
