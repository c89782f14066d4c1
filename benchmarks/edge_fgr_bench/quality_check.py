"""False alarms and hits of ``edge_fgr.quality`` on labelled photographs.

    python -m edge_fgr_bench.quality_check GROCERY [--splits train,val] [-m MODEL]

False alarms are counted on all photos as they are; hits on every tenth of them blurred, darkened
or overexposed by computation. Beside each stands how often the model is still right: a picture at
fault is one that should not be classified.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from edge_fgr.classifier import Classifier
from edge_fgr.image import read
from edge_fgr.quality import Inspector
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.dataset import Sample, scan

__all__ = ["blurred", "exposed", "moved", "quality_check"]

Change = Callable[[Image.Image], Image.Image]


def blurred(photo: Image.Image, radius: float) -> Image.Image:
    """Gaussian blur; the radius in pixels of a picture whose short side is 256."""
    return photo.filter(ImageFilter.GaussianBlur(radius * min(photo.size) / 256))


def moved(photo: Image.Image, length: float) -> Image.Image:
    """Motion blur to the side; the length in pixels of a picture whose short side is 256."""
    steps = max(1, round(length * min(photo.size) / 256))
    values = np.asarray(photo, np.float32)
    total = np.sum([np.roll(values, step - steps // 2, axis=1) for step in range(steps)], axis=0)
    return Image.fromarray((total / steps).astype(np.uint8))


def exposed(photo: Image.Image, stops: float) -> Image.Image:
    """As if with so many stops more light, clipped like a sensor's; gamma 2.2."""
    light = (np.asarray(photo, np.float32) / 255) ** 2.2 * 2**stops
    return Image.fromarray((np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8))


_CHANGES: dict[str, Change] = {
    **{f"blur {r:g} px": lambda p, r=r: blurred(p, r) for r in (1, 1.5, 2, 3, 4, 6)},  # type: ignore[misc]
    **{f"motion {n} px": lambda p, n=n: moved(p, n) for n in (9, 15, 25)},  # type: ignore[misc]
    **{f"{e:+d} stops": lambda p, e=e: exposed(p, e) for e in (-8, -7, -6, -5, 3, 4, 5, 6, 7)},  # type: ignore[misc]
}


def quality_check(classifier: Classifier, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Return per kind of picture: how many, the share called at fault, top-1, and ms each."""
    rows = {"as it is": _row(classifier, samples, lambda picture: picture)}
    for name, change in _CHANGES.items():
        rows[name] = _row(classifier, samples[::10], change)
    return rows


def _row(classifier: Classifier, samples: Sequence[Sample], change: Change) -> dict[str, float]:
    eye, faults, right, spent = Inspector(), 0, 0, 0.0
    for sample in samples:
        picture = change(read(sample.path, classifier.contract.geometry))
        start = time.perf_counter()
        faults += eye.inspect(picture).fault is not None
        spent += time.perf_counter() - start
        right += classifier(picture).label == sample.label
    count = len(samples)
    return {
        "images": count,
        "faults": faults / count,
        "top1": right / count,
        "ms": spent / count * 1e3,
    }


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", default="train,val")
    parser.add_argument("-m", "--model")
    options = parser.parse_args()
    samples = scan(options.data, tuple(options.splits.split(",")))
    rows = quality_check(Classifier.load(options.model), samples)
    print(f"{'':14} {'images':>7} {'at fault':>9} {'top-1':>7} {'ms':>6}")
    for name, row in rows.items():
        fault, top1 = f"{row['faults']:.2%}", f"{row['top1']:.1%}"
        print(f"{name:14} {row['images']:7.0f} {fault:>9} {top1:>7} {row['ms']:6.2f}")
    print(json.dumps({"schema_version": 1, "figures": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
