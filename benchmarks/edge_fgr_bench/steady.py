"""Does memory stay flat over very many calls?

    python -m edge_fgr_bench.steady [--calls 100000] [--one-arena] [--tolerance 0.01] [--json]

One in four calls classifies a file, the others an array; half of all go through ``classify_many``.
Resident memory after the warm-up is compared with that at the end. Exit code 1 when it grew by more
than the tolerance. ``--one-arena`` sets malloc up as ``classify`` of many files and ``watch`` do
(``edge_fgr.memory``). Linux only: it reads ``/proc/self/status``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_fgr.classifier import Classifier
from edge_fgr.errors import UnavailableError
from edge_fgr.image import load
from edge_fgr.memory import one_arena
from edge_fgr.model import Model, open_model
from edge_fgr.progress import progress
from edge_fgr_bench.install import PHOTOS
from edge_fgr_bench.told import parser_of, told

__all__ = ["Steady", "measure"]

_WARM_UP = 2000
_BLOCK = 500


@dataclass(frozen=True, slots=True)
class Steady:
    """Resident memory in KiB: after the warm-up, at most since, and at the end."""

    calls: int
    warm: int
    most: int
    end: int

    @property
    def growth(self) -> float:
        """Share that was added since the warm-up."""
        return self.end / self.warm - 1


def measure(model: Model, calls: int) -> Steady:
    """Call that often.

    Raises:
        UnavailableError: the system does not tell the resident memory.
    """
    classifier = Classifier(model)
    files = sorted(PHOTOS.glob("*.jpg"))
    arrays = [load(file, model.contract.geometry) for file in files]

    def sources(count: int, start: int) -> Iterator[Path | np.ndarray]:
        for i in range(start, start + count):
            yield files[i % len(files)] if i % 4 == 0 else arrays[i % len(arrays)]

    def block(start: int, count: int) -> None:
        if start // _BLOCK % 2:
            for _ in classifier.classify_many(sources(count, start), channels="rgb", workers=2):
                pass
        else:
            for source in sources(count, start):
                classifier(source, channels="rgb")

    warm = most = 0
    with progress(calls, "calls") as advance:
        for start in range(0, calls, _BLOCK):
            count = min(_BLOCK, calls - start)
            block(start, count)
            now = _resident()
            if start < min(_WARM_UP, calls // 2):
                warm = now
            most = max(most, now)
            advance(count, f"{now / 1024:.1f} MiB")
    return Steady(calls, warm, most, _resident())


def _resident() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    raise UnavailableError("/proc/self/status: this system does not tell the resident memory")


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    parser.add_argument("--one-arena", action="store_true", help="as the command line has it")
    options = parser.parse_args()
    if options.one_arena:
        one_arena()
    found = measure(open_model(options.model, device="cpu"), options.calls)
    if options.json:
        print(
            json.dumps({"schema_version": 1, "figures": asdict(found) | {"growth": found.growth}})
        )
    else:
        warm, end, most = (kib / 1024 for kib in (found.warm, found.end, found.most))
        print(
            f"{found.calls} calls: {warm:.1f} MiB after the warm-up, {end:.1f} at the end "
            f"({found.growth:+.2%}), {most:.1f} at most"
        )
    return 1 if found.growth > options.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
