"""How well scores tell images of no class from others: area under the ROC curve.

python -m edge_fgr_bench.unknown near GROCERY MODEL0 … MODEL4 [--split val] [--fit train]
python -m edge_fgr_bench.unknown far GROCERY MODEL STRANGERS [--split val] [--fit train]

Near: models that were trained without the classes of a draw (``edge_fgr_bench.held_out``), in the
order of the draws; those classes of the split are unknown, the others known. Far: photos in the
folder STRANGERS are unknown; those at even places of their sorted names are for choosing, the
others are the figure. Scores are fitted on ``--fit`` (may be repeated), which the model was trained
on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from edge_fgr.errors import EdgeFgrError
from edge_fgr.model import Model, open_model
from edge_fgr.progress import say
from edge_fgr.sources import is_image_name
from edge_fgr_bench.held_out import left_out
from edge_fgr_bench.scores import Seen, scores
from edge_fgr_bench.told import parser_of, told
from edge_fgr_export.parity import answers_of
from edge_fgr_train.dataset import scan, targets_of

__all__ = ["far", "near"]

Floats = npt.NDArray[np.floating]


def near(
    data: Path, paths: Sequence[Path], split: str, fit: Sequence[str]
) -> list[dict[str, float]]:
    """Return for each draw the area by score.

    Args:
        data: folder with the splits.
        paths: a model for each draw.
        split: which images are judged.
        fit: splits that the scores are fitted on; classes that the model lacks are left out.
    """
    found = []
    for path, missing in zip(paths, left_out(), strict=False):
        model = open_model(path, device="cpu")
        if overlap := set(missing) & set(model.contract.labels):
            raise EdgeFgrError(f"{path}: was trained on {'/'.join(min(overlap))}; another draw?")
        known = [s for s in scan(data, (split,)) if s.label not in missing]
        strange = [s for s in scan(data, (split,)) if s.label in missing]
        inside, outside = (
            answers_of(model, [s.path for s in part], model.contract.geometry)
            for part in (known, strange)
        )
        found.append(_areas(_seen(model, data, fit), inside, outside))
        say(f"{path}: {len(known)} images of its classes, {len(strange)} of others")
    return found


def far(
    data: Path, path: Path, strangers: Path, split: str, fit: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the area by score, over the even half of the strangers and over the odd one.

    Args:
        data: folder with the splits.
        path: the model.
        strangers: folder of photos of no class.
        split: which images are the known ones.
        fit: splits that the scores are fitted on.
    """
    model = open_model(path, device="cpu")
    known = [s.path for s in scan(data, (split,))]
    photos = sorted(p for p in strangers.iterdir() if is_image_name(p.name))
    inside = answers_of(model, known, model.contract.geometry)
    seen = _seen(model, data, fit)
    logits, embeddings = answers_of(model, photos, model.contract.geometry)
    even, odd = (_areas(seen, inside, (logits[half::2], embeddings[half::2])) for half in (0, 1))
    say(f"{path}: {len(known)} known images, {len(photos)} photos of no class in two halves")
    return even, odd


def _seen(model: Model, data: Path, fit: Sequence[str]) -> Seen:
    labels = model.contract.labels
    samples = [sample for sample in scan(data, fit) if sample.label in set(labels)]
    logits, embeddings = answers_of(model, [s.path for s in samples], model.contract.geometry)
    targets = np.array(targets_of(samples, labels))
    return Seen(logits, embeddings, targets, model.head(), model.contract.temperature)


def _areas(
    seen: Seen, known: tuple[Floats, Floats], strange: tuple[Floats, Floats]
) -> dict[str, float]:
    logits, embeddings = (np.concatenate(pair) for pair in zip(known, strange, strict=True))
    familiar = np.arange(len(logits)) < len(known[0])
    return {
        name: float(roc_auc_score(familiar, values))
        for name, values in scores(seen, logits, embeddings).items()
    }


@told
def main(arguments: list[str] | None = None) -> int:
    """Run for the command line: a line a score, best first, then one line of JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=("near", "far"))
    parser.add_argument("data", type=Path)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--fit", action="append", default=[])
    chosen = parser.parse_args(arguments)
    fit = tuple(chosen.fit) or ("train",)
    if chosen.what == "near":
        columns = near(chosen.data, chosen.paths, chosen.split, fit)
    else:
        path, strangers = chosen.paths
        columns = list(far(chosen.data, path, strangers, chosen.split, fit))
    rows = {name: [column[name] for column in columns] for name in columns[0]}
    figure = (lambda row: row[-1]) if chosen.what == "far" else np.mean
    print(f"{'score':38} {'odd half' if chosen.what == 'far' else 'mean':>8}  each")
    for name, row in sorted(rows.items(), key=lambda item: -figure(item[1])):
        print(f"{name:38} {figure(row):8.3f}  {' '.join(f'{value:.3f}' for value in row)}")
    print(json.dumps({"what": chosen.what, "split": chosen.split, "fit": fit, "areas": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
