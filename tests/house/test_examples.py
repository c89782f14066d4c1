"""Every example photo gets the label that its name says; every example program runs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_there_are_examples():
    assert 3 <= len(PHOTOS) <= 4


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.stem)
def test_label_is_right(clf, photo):
    assert clf(photo).label[-1].lower() == photo.stem


def test_every_program_is_run_here():
    here = Path(__file__).read_text()
    for program in EXAMPLES.glob("*.py"):
        assert f'run("{program.name}"' in here, program.name
        assert program.name in (EXAMPLES / "README.md").read_text()


def test_factory_loop():
    result = run("factory_loop.py", 1.5)
    assert result.returncode == 0 and result.stderr == ""
    first = result.stdout.splitlines()[0].split()
    assert first[:3] == ["0", "class", "Fruit/Pear/Conference"]


def test_worker_pool(tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    result = run("worker_pool.py", *PHOTOS, tmp_path / "bad.jpg")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == len(PHOTOS) and "Fruit/Pear/Conference" in lines[0]
    (error,) = result.stderr.splitlines()
    assert "bad.jpg: not an image" in error


def test_batch(tmp_path):
    result = run("batch.py", EXAMPLES, tmp_path / "out.csv")
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["file"] for row in rows] == [photo.name for photo in PHOTOS]
    for row, photo in zip(rows, PHOTOS, strict=True):
        assert row["label"].rpartition("/")[2].lower() == photo.stem
