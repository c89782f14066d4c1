"""Classes learned from 5 photos: how often they are right, and what that costs the others.

    python -m edge_fgr_bench.enrolled GROCERY held0.onnx … held4.onnx [--split val] [--json]

``held0.onnx`` to ``held4.onnx`` are models of the data sets that ``edge_fgr_bench.held_out``
writes. Of each, ten of the classes that it never saw are enrolled at once, from five photos of
``train`` each; which ones stands in ``enrolled.json``. Judged on the split: the new classes among
all, and the old ones before and after. Figures are means of the draws.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter

import numpy as np

from edge_fgr.classifier import Classifier
from edge_fgr.errors import UsageError
from edge_fgr.gallery import enroll, read_gallery
from edge_fgr.model import open_model
from edge_fgr.progress import progress
from edge_fgr_bench.held_out import DRAWS, left_out
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.dataset import Sample, scan

__all__ = ["CLASSES", "PHOTOS", "Draw", "chosen", "draw", "measure"]

CLASSES, PHOTOS = 10, 5
_LISTS = Path(__file__).with_name("enrolled.json")


@dataclass(frozen=True, slots=True)
class Draw:
    """Shares of one draw, 0 to 1.

    Attributes:
        new: of the enrolled classes' images, right among all classes.
        new_images: how many these are.
        old_before, old_after: of the trained classes' images, right without and with the gallery.
        old_images: how many these are.
        slowest: seconds that the slowest class took to enroll.
    """

    new: float
    new_images: int
    old_before: float
    old_after: float
    old_images: int
    slowest: float


def draw(samples: Sequence[Sample]) -> list[dict[str, list[str]]]:
    """Choose classes and photos by chance: for each draw, photo names by class."""
    draws = []
    for number, classes in enumerate(left_out()):
        random = np.random.default_rng(20261125 + number)
        found = {}
        for i in sorted(random.permutation(len(classes))[:CLASSES]):
            names = sorted(s.name for s in samples if s.label == classes[i] and s.split == "train")
            picked = sorted(random.permutation(len(names))[:PHOTOS])
            found["/".join(classes[i])] = [names[place] for place in picked]
        draws.append(found)
    return draws


def chosen() -> list[dict[str, list[str]]]:
    """Return the committed classes and photos of each draw."""
    lists: list[dict[str, list[str]]] = json.loads(_LISTS.read_text())
    return lists


def measure(model: Path, data: Path, photos: dict[str, list[str]], split: str) -> Draw:
    """Enroll the classes and judge all images of a split.

    Raises:
        UsageError: the model was trained on one of the classes, or the split has none of them.
    """
    opened = open_model(model, device="cpu")
    known = set(opened.contract.labels)
    samples = scan(data, (split,))
    new = [s for s in samples if "/".join(s.label) in photos]
    old = [s for s in samples if s.label in known]
    if not new or not old:
        raise UsageError(f"{data}: {split} lacks the classes of the draw, or those of {model}")
    took = []
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "gallery.json"
        for name, files in photos.items():
            start = perf_counter()
            enroll(gallery, opened, tuple(name.split("/")), [str(data / file) for file in files])
            took.append(perf_counter() - start)
        with_it = Classifier(opened, gallery=read_gallery(gallery, opened))
    without = Classifier(opened)
    with progress(len(new) + 2 * len(old), model.name) as advance:

        def share(classifier: Classifier, judged: Sequence[Sample]) -> float:
            right = 0
            paths = (sample.path for sample in judged)
            for sample, answer in zip(judged, classifier.classify_many(paths), strict=True):
                right += answer.label == sample.label
                advance(1, "")
            return right / len(judged)

        return Draw(
            new=share(with_it, new),
            new_images=len(new),
            old_before=share(without, old),
            old_after=share(with_it, old),
            old_images=len(old),
            slowest=max(took),
        )


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args()
    if len(options.models) > DRAWS:
        parser.error(f"at most {DRAWS} models, in the order of the draws")
    found = [
        measure(model, options.data, photos, options.split)
        for model, photos in zip(options.models, chosen(), strict=False)
    ]
    if options.json:
        print(json.dumps({"schema_version": 1, "draws": [asdict(one) for one in found]}))
        return 0
    print(f"{'draw':>4}  {'new':>15}  {'old before':>10}  {'after':>6}  {'loss':>6}  slowest")
    for number, one in enumerate(found):
        new, before, after = (100 * share for share in (one.new, one.old_before, one.old_after))
        print(
            f"{number:4}  {new:6.1f} % of {one.new_images:4}  {before:8.1f} %"
            f"  {after:4.1f} %  {before - after:+5.1f}  {one.slowest:.2f} s"
        )
    loss = mean(one.old_before - one.old_after for one in found)
    print(
        f"mean  {100 * mean(one.new for one in found):6.1f} %, old classes lose {100 * loss:+.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
