"""What one call on an array costs beyond onnxruntime's own ``session.run``.

    python -m edge_fgr_bench.overhead [--rounds 400] [--calls 5] [--coverage 0.95] [--json]

Both take the same pixels of the network's size, in turn. The session is asked for the outputs that
the call needs. A round takes the fastest of a few calls each; the figure is the median difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from edge_fgr.classifier import Classifier
from edge_fgr.errors import EdgeFgrError
from edge_fgr.image import load
from edge_fgr.model import Model, open_model
from edge_fgr.progress import say
from edge_fgr_bench.install import ROOT

__all__ = ["overhead"]

_PHOTO = ROOT / "tests" / "golden" / "images" / "Fruit_Banana_013.jpg"


def overhead(
    model: Model, *, rounds: int, calls: int, coverage: float | None = None
) -> dict[str, float]:
    """Return milliseconds of a call, of ``session.run``, and the median difference."""
    classifier = Classifier(model, coverage=coverage)
    pixels = load(_PHOTO, model.contract.geometry)
    batch, outputs = pixels[None], list(classifier.outputs)

    def fastest(function: Callable[[], object]) -> float:
        found = []
        for _ in range(calls):
            start = perf_counter()
            function()
            found.append(perf_counter() - start)
        return min(found) * 1e3

    rows = []
    for number in range(rounds + 5):
        run = fastest(lambda: model.session.run(outputs, {"pixels": batch}))
        call = fastest(lambda: classifier(pixels, channels="rgb"))
        if number >= 5:
            rows.append((call, run))
    return {
        "call_ms": median(call for call, _ in rows),
        "run_ms": median(run for _, run in rows),
        "overhead_ms": median(call - run for call, run in rows),
    }


def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--coverage", type=float)
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    options = parser.parse_args()
    try:
        found = overhead(
            open_model(options.model, device="cpu"),
            rounds=options.rounds,
            calls=options.calls,
            coverage=options.coverage,
        )
    except EdgeFgrError as error:
        say(str(error))
        return error.exit_code
    if options.json:
        print(json.dumps({"schema_version": 1, "figures": found}))
        return 0
    print(
        f"a call {found['call_ms']:.3f} ms, session.run {found['run_ms']:.3f} ms, "
        f"beyond it {found['overhead_ms']:.3f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
