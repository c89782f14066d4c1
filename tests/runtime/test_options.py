"""The small parser of ``classify`` and Typer read the same command lines alike."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import typer.main

from edge_fgr.cli import app
from edge_fgr.options import CLASSIFY, parse

COMMAND = typer.main.get_command(app).commands["classify"]


def by_typer(words: list[str]) -> dict[str, object]:
    """Return what Typer makes of the words that follow ``classify``; it raises as in earnest."""
    with COMMAND.make_context("classify", list(words)) as context:
        found = dict(context.params)
    many = ["inputs", *(option.name for option in CLASSIFY if option.many)]
    return found | {name: list(found[name] or ()) for name in many}


def plain(found: dict[str, object]) -> dict[str, object]:
    """Paths as such: Typer makes them of the text when it calls the command."""
    paths = {option.name for option in CLASSIFY if option.kind == "path"}
    return {
        key: Path(str(value)) if key in paths and value is not None else value
        for key, value in found.items()
    }


VALUES = {str: "a b", int: "3", float: "0.95", "path": "some/place.jsonl"}

EACH = [
    [flag] if option.kind is bool else [flag, VALUES[option.kind]]
    for option in CLASSIFY
    for flag in (*option.flags, *([option.off] if option.off else []))
]

UNDERSTOOD = [
    ["a.jpg"],
    ["a.jpg", "b.jpg", "-"],
    [""],
    ["ä ö.jpg", "*.jpg", "a=b.jpg", "3"],
    ["-r", "x", "-r", "-k", "007", "-k", "2"],
    ["--cache", "x", "--no-cache"],
    ["--no-cache", "x", "--cache"],
    ["x", "--coverage", "1", "--coverage", "5."],
    ["x", "--coverage", ".5"],
    ["x", "--device-option", "a=1", "--device-option", "b=", "--device-option", "a=2"],
    ["-m", "", "x", "--resume", "", "--roi", "0,0,1,1"],
    *[["a.jpg", *words] for words in EACH],
    *[[*words, "a.jpg"] for words in EACH],
    *[[*one, "a.jpg", *other] for one, other in product(EACH, repeat=2)],
]

TYPERS_TOO = [
    ["-k3", "x"],
    ["--top-k=3", "x"],
    ["-rk", "3", "x"],
    ["-r", "--", "-x.jpg"],
    ["--", "x"],
    ["x", "--coverage", "9e-1"],
    ["x", "--coverage", "-1"],
    ["x", "-m", "-"],
    ["x", "-k", "+3"],
    ["x", "-k", " 3 "],
    ["x", "-k", "1_0"],
    ["x", "-k", "\u0663"],  # an Arabic-Indic 3
]

COMPLAINTS = [
    [],
    ["-r"],
    ["x", "-k"],
    ["x", "-k", "0"],
    ["x", "--threads", "0"],
    ["x", "-k", "1.5"],
    ["x", "-k", "three"],
    ["x", "-k", ""],
    ["x", "-k", "9" * 5000],
    ["x", "--coverage", "."],
    ["x", "--coverage", "1.2.3"],
    ["x", "--no-such-option"],
    ["x", "-z"],
    ["x", "--recursive=yes"],
    ["x", "-m"],
]


@pytest.mark.parametrize("words", UNDERSTOOD, ids=" ".join)
def test_both_read_it_alike(words):
    found = parse(["classify", *words])
    assert found is not None
    assert plain(found) == plain(by_typer(words))


@pytest.mark.parametrize("words", TYPERS_TOO, ids=" ".join)
def test_unusual_spellings_are_left_to_typer(words):
    assert parse(["classify", *words]) is None
    assert by_typer(words)["inputs"]


@pytest.mark.parametrize("words", COMPLAINTS, ids=lambda words: " ".join(words)[:40] or "nothing")
def test_mistakes_are_left_to_typer(words):
    assert parse(["classify", *words]) is None
    with pytest.raises(typer.TyperException):
        by_typer(words)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["--debug", "classify", "x"],
        ["classify", "--help"],
        ["classify", "x", "-h"],
        ["inspect", "x"],
        ["clas", "x"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_all_else_is_typers(arguments):
    assert parse(arguments) is None
