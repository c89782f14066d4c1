"""Images a second of a folder of 640 x 480 JPEGs, against what the processors could do at most.

    python -m edge_fgr_bench.folder [--images 400] [--rounds 7] [--workers 2] [--json]

The limit is workers / (decode + inference), each measured alone on one thread: what perfect scaling
without any cost of ours would give. All three are measured in turn, in every round; the figure is
the median of the rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from edge_fgr.classifier import Classifier
from edge_fgr.image import load
from edge_fgr.model import Model, open_model
from edge_fgr.pipeline import classify_files
from edge_fgr.progress import progress
from edge_fgr_bench.install import PHOTOS
from edge_fgr_bench.told import parser_of, told

__all__ = ["Rate", "measure", "write_folder"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Medians of the rounds.

    Attributes:
        images_per_s: of the folder.
        limit: images a second at most.
        share: the folder over the limit, round by round.
        decode_ms, infer_ms: of one image, alone on one thread.
    """

    images_per_s: float
    limit: float
    share: float
    decode_ms: float
    infer_ms: float


def write_folder(folder: Path, images: int) -> list[str]:
    """Write JPEGs of 640 x 480 pixels, quality 90, made from the project's photos."""
    from PIL import Image

    sources = sorted(PHOTOS.glob("*.jpg"))
    paths = []
    for i in range(images):
        path = folder / f"{i:05}.jpg"
        if i < len(sources):
            with Image.open(sources[i]) as photo:
                photo.convert("RGB").resize((640, 480)).save(path, quality=90)
        else:
            path.write_bytes((folder / f"{i % len(sources):05}.jpg").read_bytes())
        paths.append(str(path))
    return paths


def measure(model: Model, paths: Sequence[str], *, rounds: int, workers: int) -> Rate:
    """Measure decode, inference and the folder in turn.

    Args:
        model: opened with one thread.
        paths: the folder's images.
        rounds: how often; one more for warming up is not counted.
        workers: threads that classify.
    """
    classifier, geometry = Classifier(model), model.contract.geometry
    alone = paths[: max(1, len(paths) // 4)]
    found = []
    with progress(rounds + 1, "rounds") as advance:
        for number in range(rounds + 1):
            start = perf_counter()
            pixels = [load(path, geometry) for path in alone]
            decoded = perf_counter()
            for one in pixels:
                model.session.run(["logits", "embedding"], {"pixels": one[None]})
            inferred = perf_counter()
            answers = classify_files(classifier, paths, top_k=5, workers=workers)
            failed = sum(error is not None for _, error in answers)
            end = perf_counter()
            assert not failed  # noqa: S101
            if number:
                decode, infer = (decoded - start) / len(alone), (inferred - decoded) / len(alone)
                found.append((decode, infer, len(paths) / (end - inferred)))
            advance(1, "")
    return Rate(
        median(rate for _, _, rate in found),
        median(workers / (decode + infer) for decode, infer, _ in found),
        median(rate * (decode + infer) / workers for decode, infer, rate in found),
        median(decode for decode, _, _ in found) * 1e3,
        median(infer for _, infer, _ in found) * 1e3,
    )


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    options = parser.parse_args()
    model = open_model(options.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_folder(Path(folder), options.images)
        found = measure(model, paths, rounds=options.rounds, workers=options.workers)
    if options.json:
        print(json.dumps({"schema_version": 1, "figures": asdict(found)}))
        return 0
    print(
        f"{found.images_per_s:.0f} images/s of at most {found.limit:.0f}: {found.share:.3f} "
        f"(decode {found.decode_ms:.2f} ms, inference {found.infer_ms:.2f} ms)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
