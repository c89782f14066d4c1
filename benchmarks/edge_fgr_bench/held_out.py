"""Data sets that lack a fifth of their classes, to measure what a model does with the missing ones.

    python -m edge_fgr_bench.held_out GROCERY OUT [--fit train,val]

writes folders OUT/0 … OUT/4, each with a recipe. Train and export each (``edge-fgr train OUT/0/data
-o RUN --recipe OUT/0/recipe.toml``); the models are what ``edge_fgr_bench.unknown`` and
``edge_fgr_bench.enrolled`` ask for. Which classes are left out of which stands in
``held_out.json``: every class of the set is missing from one. To choose something on val, write the
folders with ``--fit train``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_fgr.contract import Label
from edge_fgr.errors import UsageError
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.dataset import labels_of, read_list, scan

__all__ = ["DRAWS", "draw", "left_out", "write_folders"]

DRAWS = 5
_LISTS = Path(__file__).with_name("held_out.json")
_RECIPES = Path(__file__).parents[2] / "train" / "edge_fgr_train" / "recipes"
_RECIPE = """\
# grocery81 without the classes of one draw: shorter, at a smaller size, one member.
name = "held-out-{draw}"
licence = "MIT"

[data]
fit = {fit}
evaluate = ""
calibration = "calibration.txt"

[geometry]
size = 256
short_side = 256

[model]
backbone = "efficientnet_lite0"
dropout = 0.2
drop_path = 0.05
frozen = 2

[augment]
size = 192
crop_min = 0.25
jitter = 0.3
erase = 0.2
mixup = 0.2
cutmix = 1.0
mixed = 0.7

[optimise]
epochs = 10
members = 1
batch = 32
lr = 5e-4
head_factor = 5.0
weight_decay = 0.02
warmup_epochs = 1.0
label_smoothing = 0.1
ema = 0.99
seed = {draw}
"""


def draw(labels: list[Label]) -> list[list[Label]]:
    """Divide classes into ``DRAWS`` parts by chance: each is left out of one data set."""
    order = np.random.default_rng(20261125).permutation(len(labels))
    return [sorted(labels[i] for i in order[part::DRAWS]) for part in range(DRAWS)]


def left_out() -> list[list[Label]]:
    """Return the committed classes of each draw."""
    return [[tuple(label.split("/")) for label in part] for part in json.loads(_LISTS.read_text())]


def write_folders(data: Path, out: Path, fit: Sequence[str] = ("train", "val")) -> None:
    """Write for each draw a folder ``data`` of links, a calibration list and a recipe.

    Args:
        data: folder with ``train`` and ``val``.
        out: where to; must not be there yet.
        fit: what the recipes train on, of ``train`` and ``val``.

    Raises:
        InputMissingError: ``data`` lacks ``train`` or ``val``, or one holds no images.
        UsageError: ``out`` is there, or the classes are not those of the committed lists.
    """
    if out.exists():
        raise UsageError(f"{out}: is there already; give a new folder")
    samples = scan(data, ("train", "val"))
    absent = left_out()
    if tuple(sorted(label for part in absent for label in part)) != labels_of(samples):
        raise UsageError(f"{data}: has other classes than {_LISTS.name}")
    kept_apart = read_list(_RECIPES / "grocery81.calibration.txt")
    for number, classes in enumerate(absent):
        home = out / str(number)
        names = []
        for sample in samples:
            if sample.label in classes:
                continue
            link = home / "data" / sample.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(sample.path.resolve())
            names.append(sample.name)
        held = [name for name in names if name in kept_apart and name.split("/")[0] in fit]
        (home / "calibration.txt").write_text("\n".join(held) + "\n")
        recipe = _RECIPE.format(draw=number, fit=json.dumps(list(fit)))
        (home / "recipe.toml").write_text(recipe)


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fit", default="train,val")
    options = parser.parse_args()
    write_folders(options.data, options.out, options.fit.split(","))
    return 0


if __name__ == "__main__":
    sys.exit(main())
