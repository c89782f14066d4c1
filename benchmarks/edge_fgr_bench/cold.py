"""Whole processes in turn: wall time and peak memory of the command line against a bare script."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

__all__ = ["cold_start", "timed"]


# A child counts the memory of the process that it was forked from: so a small one forks it.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]))
process.returncode = 0
"""


def timed(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return its wall time in seconds and its peak resident memory in KiB."""
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    answer = subprocess.run(
        launcher,
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,  # Ctrl-C is for us
    ).stdout
    wall, memory, code = json.loads(answer)
    if code:
        raise subprocess.CalledProcessError(code, command)
    return wall, memory


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
