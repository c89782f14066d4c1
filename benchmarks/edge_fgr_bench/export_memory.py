"""Peak memory of ``edge-fgr export`` with few and with many range images, as whole processes.

    python -m edge_fgr_bench.export_memory RUN [--data DATA] [--images 100 2000]

Prints a table, then one line of JSON. Words of the export go to stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_fgr.progress import say
from edge_fgr_bench.cold import timed
from edge_fgr_bench.told import parser_of

__all__ = ["export_memory"]


def export_memory(run: Path, data: str | None, counts: Sequence[int]) -> dict[str, float]:
    """Export a run with each count of range images; nothing of it is kept.

    Returns:
        Seconds and peak MiB by names like ``100_seconds``; ``growth`` is the last peak over the
        first.

    Raises:
        CalledProcessError: an export failed; its own line on stderr says why.
    """
    found: dict[str, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "edge_fgr", "export", str(run)]
            command += ["--output", str(Path(folder) / "model.onnx")]
            command += ["--range-images", str(count)]
            command += ["--data", data] if data else []
            seconds, memory = timed(command)
        found[f"{count}_seconds"] = seconds
        found[f"{count}_peak_mib"] = memory / 1024
    found["growth"] = found[f"{counts[-1]}_peak_mib"] / found[f"{counts[0]}_peak_mib"]
    return found


def main() -> int:
    """Run for the command line; an export that failed said why."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--data", help="where the run's images are now")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 2000])
    options = parser.parse_args()
    try:
        found = export_memory(options.run, options.data, options.images)
    except subprocess.CalledProcessError as error:
        say(f"{options.run}: an export failed with exit code {error.returncode}")
        return int(error.returncode)
    print(f"{'range images':>12} {'seconds':>8} {'peak MiB':>9}")
    for count in options.images:
        print(f"{count:12} {found[f'{count}_seconds']:8.1f} {found[f'{count}_peak_mib']:9.1f}")
    print(json.dumps({"schema_version": 1, "figures": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
