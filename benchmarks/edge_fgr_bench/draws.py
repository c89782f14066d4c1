"""Lists of few shots: the images of several draws, written once and read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.dataset import Dataset, Sample, labels_of, targets_of
from edge_fgr_train.shots import draw_shots

__all__ = ["FIT", "checked", "drawn", "read_draws", "write_draws"]

FIT = "train"
"""The split that draws are taken from."""


def checked(dataset: Dataset, names: Sequence[str], classes: int) -> list[Sample]:
    """Return the samples of a draw.

    Args:
        dataset: with the split ``FIT``.
        names: of the draw's images.
        classes: how many there are.

    Raises:
        InputMissingError: an image is not there.
        UsageError: the draw does not hold equally many of every class.
    """
    known = {sample.name: sample for sample in dataset.of(FIT)}
    if gone := [name for name in names if name not in known]:
        raise InputMissingError(f"{dataset.origin}: lacks {gone[0]}, an image of a draw, in {FIT}")
    draw = [known[name] for name in names]
    counts = np.bincount(targets_of(draw, labels_of(draw)))
    if len(counts) != classes or len(set(counts.tolist())) > 1 or len(set(names)) < len(names):
        raise UsageError(f"{dataset.origin}: a draw must hold equally many images of every class")
    return draw


def drawn(data: str, shots: int, draws: int) -> list[list[str]]:
    """Return the names of the images of each draw, by the seeds 0 to ``draws`` - 1.

    Raises:
        UsageError: fewer than one draw, or ``draw_shots`` refuses.
        EdgeFgrError: what ``open_dataset`` raises.
    """
    if draws < 1:
        raise UsageError(f"--draws {draws}: at least one is needed")
    samples = open_dataset(data, (FIT,)).of(FIT)
    return [[s.name for s in draw_shots(samples, shots, seed)] for seed in range(draws)]


def read_draws(name: str) -> list[list[str]]:
    """Read what ``write_draws`` wrote: a file, or the name of a committed one.

    Raises:
        InputMissingError: it is not there.
        UsageError: it is no such list.
    """
    committed = Path(str(files("edge_fgr_bench") / f"shots_{name}.json"))
    path = committed if not Path(name).suffix and committed.exists() else Path(name)
    try:
        draws = json.loads(path.read_text(encoding="utf-8"))["draws"]
        if not draws or not all(isinstance(n, str) for draw in draws for n in draw):
            raise TypeError
    except OSError:
        raise InputMissingError(f"{name}: no such list of draws; make one with --write") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path}: no list of draws; make one with --write") from None
    return [list(draw) for draw in draws]


def write_draws(data: str, path: Path, shots: int, draws: int) -> list[list[str]]:
    """Draw from ``train`` by the seeds 0 to ``draws`` - 1 and write the names as JSON.

    Raises:
        UsageError: fewer than one draw, or ``draw_shots`` refuses.
        EdgeFgrError: what ``open_dataset`` raises.
    """
    made = drawn(data, shots, draws)
    text = json.dumps({"shots": shots, "draws": made}, indent=1, ensure_ascii=False)
    atomic_write(path, text + "\n")
    return made
