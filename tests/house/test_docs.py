"""The Python blocks of the pages about the API run; recipes of the shell blocks can be meant."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from edge_fgr_train.recipe import load_recipe

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


@pytest.mark.parametrize("page", ["python.md", "watch.md"])
def test_blocks_run(page):
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text())
    assert blocks
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def trainings(page: Path) -> list[list[str]]:
    """Return the words of each ``edge-fgr train`` in the page's shell blocks."""
    lines = "".join(SHELL.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in lines.splitlines()]
    return [found for found in words if found[:2] == ["edge-fgr", "train"]]


PAGES = [page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if trainings(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_of_shell_blocks_can_be_meant(page):
    for words in trainings(page):
        options = dict(pairwise(words))
        recipe = options.get("--recipe") or ("few-shots" if "--shots" in options else "default")
        if not recipe.endswith(".toml"):
            load_recipe(recipe, [b for a, b in pairwise(words) if a == "--set"])


def test_some_recipes_were_found():
    assert len(PAGES) > 5
