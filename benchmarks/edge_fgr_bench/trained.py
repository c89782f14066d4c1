"""Models that a benchmark trains by the command line, and goes on with after an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.errors import ModelError, UsageError
from edge_fgr.files import atomic_path, atomic_write
from edge_fgr_train.dataset import Sample

__all__ = ["claim", "make", "save_answers"]


def claim(path: Path, wanted: object, what: str) -> None:
    """Write into ``path`` what its folder is for, or refuse one that is for something else.

    Args:
        path: of a JSON file.
        wanted: what JSON can hold.
        what: the folder holds, as the message calls it.

    Raises:
        UsageError: the folder is for something else.
    """
    text = json.dumps(wanted, indent=1, ensure_ascii=False)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{path.parent}: holds {what} of another recipe or other images; use a new folder"
        )
    atomic_write(path, text)


def make(home: Path, steps: Mapping[Path, Sequence[object]]) -> None:
    """Run those commands of ``edge-fgr`` whose last file is not there yet, each in a process.

    Args:
        home: folder that the message names.
        steps: arguments by the file that a command writes last.

    Raises:
        ModelError: a command failed.
    """
    for written, arguments in steps.items():
        if not written.exists():
            command = [sys.executable, "-m", "edge_fgr", *map(str, arguments)]
            if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
                raise ModelError(
                    f"{home}: {arguments[0]} failed, its own words stand above; run this again to "
                    "go on from there"
                )


def save_answers(
    path: Path,
    held: Sequence[Sample],
    truth: Sequence[int],
    logits: npt.NDArray[np.float32],
    temperature: float,
) -> None:
    """Write names, truth and logits of the images held out, and a temperature, as ``.npz``."""
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            names=np.array([sample.name for sample in held]),
            truth=np.array(truth),
            logits=logits,
            temperature=np.float64(temperature),
        )
