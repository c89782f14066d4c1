"""What one call on an array costs beyond onnxruntime's own ``session.run``.

    python -m edge_fgr_bench.overhead [--rounds 3000] [--coverage 0.95] [--json]

Both take the same pixels of the network's size, one after the other, in an order that changes by
chance. The session is asked for the outputs that the call needs. The figure is the median of the
rounds' differences: what is ours runs right after an inference then, as in earnest, with nothing
of it left in the processor's caches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

from edge_fgr.classifier import Classifier
from edge_fgr.image import load
from edge_fgr.model import Model, open_model
from edge_fgr_bench.install import PHOTOS
from edge_fgr_bench.told import parser_of, told

__all__ = ["overhead"]

_WARM_UP = 5
_PHOTO = PHOTOS / "Fruit_Banana_013.jpg"


def overhead(model: Model, *, rounds: int, coverage: float | None = None) -> dict[str, float]:
    """Return milliseconds of a call, of ``session.run``, and the median difference."""
    classifier = Classifier(model, coverage=coverage)
    pixels = load(_PHOTO, model.contract.geometry)
    batch, outputs = pixels[None], list(classifier.outputs)
    random = np.random.default_rng(0)
    kinds: tuple[Callable[[], object], ...] = (
        lambda: classifier(pixels, channels="rgb"),
        lambda: model.session.run(outputs, {"pixels": batch}),
    )
    rows = []
    for number in range(rounds + _WARM_UP):
        took = [0.0, 0.0]
        for kind in random.permutation(len(kinds)):
            start = perf_counter()
            kinds[kind]()
            took[kind] = (perf_counter() - start) * 1e3
        if number >= _WARM_UP:
            rows.append(took)
    return {
        "call_ms": median(call for call, _ in rows),
        "run_ms": median(run for _, run in rows),
        "overhead_ms": median(call - run for call, run in rows),
    }


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--coverage", type=float)
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    options = parser.parse_args()
    found = overhead(
        open_model(options.model, device="cpu"),
        rounds=options.rounds,
        coverage=options.coverage,
    )
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
