"""One image, one thread: how long each of several models takes, and what that is of the first.

    python -m edge_fgr_bench.speed FP32 PORTABLE [VNNI ...] [--rounds 40] [--json]
                                   [--openvino --openvino-python /opt/venv-ov/bin/python]

Models take turns in short rounds, in another order each time, so that what else the machine does
meets all of them alike: ratios within a round count, not the milliseconds. OpenVINO answers from a
process of its own, in turn with onnxruntime, on the same files and pixels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

from edge_fgr.errors import UnavailableError
from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr.progress import progress, say
from edge_fgr_bench.install import PHOTOS
from edge_fgr_bench.told import parser_of, told

__all__ = ["Ratio", "latencies", "onnxruntime_runners", "openvino_runners", "ratio"]

Runner = Callable[[int], list[float]]
"""Runs a model so many times; returns milliseconds."""

_PHOTO = PHOTOS / "Fruit_Banana_013.jpg"
_CHILD = Path(__file__).with_name("openvino_child.py")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One model's milliseconds over another's, round by round: the median and the quartiles."""

    median: float
    low: float
    high: float


def latencies(runners: Mapping[str, Runner], rounds: int, runs: int = 5) -> dict[str, list[float]]:
    """Return the milliseconds of the fastest run of each round by runner.

    Args:
        runners: what takes turns.
        rounds: how often each has its turn; two more for warming up are not counted.
        runs: inferences of a turn.
    """
    found: dict[str, list[float]] = {name: [] for name in runners}
    random = np.random.default_rng(0)
    with progress(rounds + 2, "rounds") as advance:
        for i in range(rounds + 2):
            for name in random.permutation(list(runners)):
                took = min(runners[name](runs))  # the one that was disturbed least
                if i >= 2:
                    found[name].append(took)
            advance(1, "")
    return found


def ratio(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """Compare two runners round by round."""
    each = [a / b for a, b in zip(of, to, strict=True)]
    low, _, high = quantiles(each, n=4) if len(each) > 1 else each * 3
    return Ratio(median(each), low, high)


def onnxruntime_runners(models: Sequence[Path], photo: Path) -> dict[str, Runner]:
    """Open models on one thread, as the runtime does; logits alone are asked for."""

    def runner(path: Path) -> Runner:
        model = open_model(path, device="cpu", threads=1)
        pixels = load(photo, model.contract.geometry)[None]

        def run(count: int) -> list[float]:
            found = []
            for _ in range(count):
                start = perf_counter()
                model.run(pixels)
                found.append((perf_counter() - start) * 1e3)
            return found

        return run

    return {f"{path} onnxruntime": runner(path) for path in models}


@contextmanager
def openvino_runners(
    models: Sequence[Path], photo: Path, python: str
) -> Iterator[dict[str, Runner]]:
    """Start OpenVINO under another interpreter; it ends with the context.

    Raises:
        UnavailableError: that interpreter has no OpenVINO, or OpenVINO does not take a model.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments: list[str] = []
        for i, path in enumerate(models):
            geometry = open_model(path, device="cpu").contract.geometry
            pixels = Path(folder) / f"{i}.npy"
            np.save(pixels, load(photo, geometry)[None])
            arguments += [str(pixels), str(path)]
        command = [python, "-I", str(_CHILD), *arguments]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise UnavailableError(f"{python}: cannot be run ({error.strerror})") from None
        with process:
            child = _Child(process, python)
            say(f"OpenVINO {child.answer()}")
            yield {f"{path} openvino": partial(child.latencies, i) for i, path in enumerate(models)}


class _Child:
    """A process that answers a line with a line."""

    def __init__(self, process: subprocess.Popen[str], python: str) -> None:
        self._process, self._python = process, python

    def latencies(self, which: int, count: int) -> list[float]:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{which} {count}\n")
            self._process.stdin.flush()
        return list(self.answer())

    def answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise UnavailableError(f"{self._python}: OpenVINO failed; its own words stand above")
        return json.loads(line)


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--image", type=Path, default=_PHOTO)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--openvino", action="store_true", help="also with OpenVINO")
    parser.add_argument("--openvino-python", default=sys.executable, help="interpreter that has it")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args()
    with ExitStack() as stack:
        runners = onnxruntime_runners(options.models, options.image)
        if options.openvino:
            other = openvino_runners(options.models, options.image, options.openvino_python)
            runners |= stack.enter_context(other)
        found = latencies(runners, options.rounds)
    rows = _rows(options.models, found)
    if options.json:
        print(json.dumps({"schema_version": 1, "rounds": options.rounds, "figures": rows}))
        return 0
    print(f"{'ms':>7}  {'of the first':24}  {'of OpenVINO':24}  model, runtime")
    for row in rows:
        shares = [_shown(row[key]) for key in ("of_first", "of_openvino")]
        print(f"{row['ms']:7.3f}  {shares[0]:24}  {shares[1]:24}  {row['model']}, {row['runtime']}")
    return 0


def _rows(models: Sequence[Path], found: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    rows = []
    first = found[f"{models[0]} onnxruntime"]
    for name, took in found.items():
        model, _, runtime = name.rpartition(" ")
        rival = found.get(f"{model} openvino") if runtime == "onnxruntime" else None
        rows.append(
            {
                "model": model,
                "runtime": runtime,
                "ms": median(took),
                "of_first": asdict(ratio(took, first)),
                "of_openvino": asdict(ratio(took, rival)) if rival else None,
            }
        )
    return rows


def _shown(share: Mapping[str, float] | None) -> str:
    if share is None:
        return ""
    return f"{share['median']:.3f} ({share['low']:.3f} to {share['high']:.3f})"


if __name__ == "__main__":
    sys.exit(main())
