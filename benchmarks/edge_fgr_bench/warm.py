"""12-megapixel JPEGs from file to label, against a full decode by hand.

    python -m edge_fgr_bench.warm FOLDER [--limit 200] [--model MODEL.onnx] [--json]

Photos of the folder are enlarged to 4032 x 3024, get noise of a standard deviation of 4 and are
written as JPEG of quality 90, one at a time, in a temporary folder. Each is classified both ways,
in turn, on one thread: by the runtime, which lets libjpeg decode at a fraction of the size, and as
a script would, decoding all of it. Milliseconds compare within a photo; labels must agree.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import numpy as np

from edge_fgr.classifier import Classifier
from edge_fgr.contract import Geometry
from edge_fgr.errors import UsageError
from edge_fgr.image import load
from edge_fgr.model import Model, open_model
from edge_fgr.progress import progress
from edge_fgr.sources import walk
from edge_fgr_bench.told import parser_of, told

__all__ = ["Warm", "by_hand", "enlarge", "measure"]

SIZE = (4032, 3024)


@dataclass(frozen=True, slots=True)
class Warm:
    """Figures over all photos.

    Attributes:
        photos: how many.
        ours_ms, hand_ms: medians, file to label.
        ratio: median of ours over by hand, photo by photo; ``low`` and ``high`` its quartiles.
        agree: share of photos with the same label, 0 to 1.
        pixel_difference: mean absolute difference of the pixels that the network gets, of 255.
    """

    photos: int
    ours_ms: float
    hand_ms: float
    ratio: float
    low: float
    high: float
    agree: float
    pixel_difference: float


def enlarge(photo: Path, out: Path, seed: int) -> None:
    """Write the enlarged photo with sensor-like noise; a portrait stays one."""
    from PIL import Image

    with Image.open(photo) as small:
        rgb = small.convert("RGB")
    size = SIZE if rgb.width >= rgb.height else SIZE[::-1]
    large = np.asarray(rgb.resize(size, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(seed).normal(0, 4, large.shape).astype(np.float32)
    noisy = np.clip(np.rint(large + noise), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(out, "JPEG", quality=90)


def by_hand(path: Path, geometry: Geometry) -> np.ndarray:
    """Return uint8 ``(size, size, 3)`` of a photo that was decoded in full: centre, short side."""
    from PIL import Image

    with Image.open(path) as photo:
        rgb = photo.convert("RGB")
    side = min(rgb.size) * geometry.size / geometry.short_side
    left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
    square = (geometry.size, geometry.size)
    kernel = Image.Resampling[geometry.kernel.upper()]
    return np.asarray(rgb.resize(square, kernel, box=(left, top, left + side, top + side)))


def measure(model: Model, photos: Sequence[Path]) -> Warm:
    """Classify each of one or more photos both ways, in turn."""
    classifier, geometry = Classifier(model), model.contract.geometry
    labels = model.contract.labels
    rows, differences, agree = [], [], 0
    with tempfile.TemporaryDirectory() as folder, progress(len(photos), "photos") as advance:
        large = Path(folder) / "large.jpg"
        for number, photo in enumerate(photos):
            enlarge(photo, large, number)
            if number == 0:  # the first call of anything is slower
                classifier(large)
                model.run(by_hand(large, geometry)[None])
            start = perf_counter()
            ours = classifier(large).label
            middle = perf_counter()
            pixels = by_hand(large, geometry)
            theirs = labels[int(model.run(pixels[None])[0].argmax())]
            end = perf_counter()
            rows.append((middle - start, end - middle))
            agree += ours == theirs
            seen = load(large, geometry).astype(np.int16)
            differences.append(float(np.abs(seen - pixels.astype(np.int16)).mean()))
            advance(1, "")
    each = [ours / hand for ours, hand in rows]
    low, _, high = quantiles(each, n=4) if len(each) > 1 else each * 3
    return Warm(
        len(photos),
        median(ours for ours, _ in rows) * 1e3,
        median(hand for _, hand in rows) * 1e3,
        median(each),
        low,
        high,
        agree / len(photos),
        float(np.mean(differences)),
    )


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="photos, spread over the folder")
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    options = parser.parse_args()
    every = [Path(path) for path in walk(str(options.folder)) if isinstance(path, str)]
    if not every:
        raise UsageError(f"{options.folder}: no photos to enlarge; give another folder")
    step = max(1, len(every) // max(1, options.limit))
    found = measure(open_model(options.model, device="cpu"), every[::step][: options.limit])
    if options.json:
        print(json.dumps({"schema_version": 1, "figures": asdict(found)}))
        return 0
    print(
        f"{found.photos} photos of 12 megapixels: {found.ours_ms:.1f} ms against "
        f"{found.hand_ms:.1f} ms, {found.ratio:.3f}x ({found.low:.3f} to {found.high:.3f}); labels "
        f"agree {found.agree:.2%}; pixels differ by {found.pixel_difference:.2f} of 255"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
