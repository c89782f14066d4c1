"""Whole processes in turn: wall time and peak memory of the command line against a bare script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

__all__ = ["cold_start", "timed"]


def timed(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return its wall time in seconds and its peak resident memory in KiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return wall, usage.ru_maxrss


def cold_start(
    model: Path, photo: Path, bare: Path, runs: int, python: str = sys.executable
) -> dict[str, float]:
    """Time ``edge-fgr classify photo`` and ``bare model photo`` in turn: A B A B.

    Args:
        model: the file that both open.
        photo: the image that both classify.
        bare: the script to compare with.
        runs: counted pairs, after one that is not counted.
        python: interpreter of the environment whose command line is measured.
    """
    tool = str(Path(python).parent / "edge-fgr")
    ours = [tool, "classify", str(photo)]
    theirs = [python, str(bare), str(model), str(photo)]
    pairs = [(timed(ours), timed(theirs)) for _ in range(runs + 1)][1:]
    return {
        "runs": runs,
        "wall_ms": median(a[0] for a, _ in pairs) * 1e3,
        "bare_wall_ms": median(b[0] for _, b in pairs) * 1e3,
        "wall_ratio": median(a[0] / b[0] for a, b in pairs),
        "memory_mib": median(a[1] for a, _ in pairs) / 1024,
        "bare_memory_mib": median(b[1] for _, b in pairs) / 1024,
        "memory_ratio": median(a[1] / b[1] for a, b in pairs),
    }
