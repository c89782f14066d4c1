"""Does the evidence lie where the map says? Blur it, and see how far the probability falls.

    python -m edge_fgr_bench.evidence MODEL DATA [--split val] [--share 0.25] [--every 1] [--json]

The deletion check of RISE (Petsiuk, Das and Saenko, BMVC 2018, section 4.3) at one share of the
picture, with blur in the place of black, which no photograph has: the places of most evidence are
blurred, and, the other way round, all the rest. Other choices of as many places take their turn:
random ones, the middle of the picture (photographers aim), the places with the largest features
whatever the class, the map of another class, and the places of least evidence.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edge_fgr.decision import probabilities
from edge_fgr.image import load
from edge_fgr.model import Model, open_model
from edge_fgr.progress import progress
from edge_fgr.saliency import explain
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.dataset import scan

if TYPE_CHECKING:
    from edge_fgr.image import Pixels

__all__ = ["blurred", "chosen_places", "fall"]

Floats = npt.NDArray[np.floating]

_RANDOM = 3
"""Random choices for each image."""


def blurred(pixels: Pixels, places: npt.NDArray[np.bool_]) -> Pixels:
    """Blur the chosen places ``(h, w)`` of pixels ``(size, size, 3)``, without a hard edge."""
    size = len(pixels)
    photo = Image.fromarray(pixels)
    grid = Image.fromarray(np.where(places, 255, 0).astype(np.uint8))
    mask = grid.resize(photo.size, Image.Resampling.NEAREST)
    soft = mask.filter(ImageFilter.GaussianBlur(size / 64))
    return np.asarray(
        Image.composite(photo.filter(ImageFilter.GaussianBlur(size / 16)), photo, soft)
    )


def chosen_places(scores: Floats, share: float) -> npt.NDArray[np.bool_]:
    """Return the places ``(h, w)`` of the highest scores, about ``share`` of all, at least one."""
    count = max(1, round(scores.size * share))
    places = np.zeros(scores.size, np.bool_)
    places[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    return places.reshape(scores.shape)


def fall(model: Model, path: Path, share: float, random: np.random.Generator) -> dict[str, Floats]:
    """Return for each way to choose places four numbers.

    Probability of the model's own answer with these places blurred and with all others blurred,
    and whether (1 or 0) the answer then is the same.
    """
    geometry, labels = model.contract.geometry, model.contract.labels
    pixels = load(path, geometry)
    evidence = explain(model, path)
    answer = labels.index(evidence.chosen.label)
    other = explain(model, path, (answer + 1 + int(random.integers(len(labels) - 1))) % len(labels))
    features = model.outputs(pixels[None], "features")[0][0]
    shape = evidence.map.values.shape
    down, right = (np.arange(n) - (n - 1) / 2 for n in shape)
    scores = {
        "evidence": evidence.map.values,
        "largest features": features.sum(0),
        "middle": -(down[:, None] ** 2 + right**2),
        "another class": other.map.values,
        "least evidence": -evidence.map.values,
    } | {f"random {i}": random.random(shape) for i in range(_RANDOM)}
    chosen = [chosen_places(score, share) for score in scores.values()]
    pictures = [blurred(pixels, places) for mask in chosen for places in (mask, ~mask)]
    logits = model.run(np.stack(pictures))
    found = probabilities(logits, model.contract.temperature)[:, answer].reshape(-1, 2)
    same = (logits.argmax(1) == answer).reshape(-1, 2)
    rows = np.concatenate([found, same], axis=1)
    result = {name: rows[i] for i, name in enumerate(scores) if not name.startswith("random")}
    return result | {"random": rows[-_RANDOM:].mean(0)}


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--share", type=float, default=0.25, help="of the places")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args()
    model = open_model(options.model, device="cpu")
    paths = [sample.path for sample in scan(options.data, (options.split,))][:: options.every]
    random = np.random.default_rng(0)
    found = []
    before = 0.0
    with progress(len(paths), "images") as advance:
        for path in paths:
            found.append(fall(model, path, options.share, random))
            before += explain(model, path).chosen.probability / len(paths)
            advance(1, "")
    rows: list[dict[str, Any]] = []
    for name in found[0]:
        mean = np.mean([each[name] for each in found], axis=0).tolist()
        keys = ("blurred", "all_else_blurred", "same_label", "same_label_all_else")
        rows.append({"places": name} | dict(zip(keys, mean, strict=True)))
    if options.json:
        head = {"schema_version": 1, "images": len(paths), "share": options.share}
        print(json.dumps(head | {"probability": before, "figures": rows}))
        return 0
    print(f"{len(paths)} images, probability of the answer {before:.1%}; {options.share:.0%} of")
    print(f"{'the places':18}{'blurred':>9}{'same':>7}{'  all else':>10}{'same':>7}")
    for row in rows:
        print(
            f"{row['places']:18}{row['blurred']:9.1%}{row['same_label']:7.1%}"
            f"{row['all_else_blurred']:10.1%}{row['same_label_all_else']:7.1%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
