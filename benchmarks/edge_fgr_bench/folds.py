"""Cross-validation of a trained network: each image is answered by a model that never saw it.

    python -m edge_fgr_bench.folds DATA OUT --recipe NAME [--set k=v ...] [--count 5]
                                   [--good Free] [--alike BITS] [--json]

All splits of DATA are taken together, and near-duplicates stay in one fold. Each fold is trained
and exported by the command line in a process of its own, and the INT8 file answers its images.
What is finished in OUT is not done again. ``--good`` names the class of parts without a defect:
then it is also told how many defects a limit misses that rejects at most 5 % of these.
``--alike`` says in how many of 64 bits the perceptual hashes of near-duplicates may differ; a lower
number parts photographs of one thing under two lights, and what is held out becomes easier.

OUT/folds.json      recipe and folds: another recipe, other images, COUNT or BITS are refused
OUT/K/index.csv     the images of fold K: ``train``, and ``test`` for those held out
OUT/K/run           what ``train`` wrote
OUT/K/model.onnx    the INT8 model
OUT/K/answers.npz   names, truth and logits of the images held out, and the model's temperature

No image of ``train`` is kept apart, so export fits no temperature: it is 1. With ``--set
'data.evaluate="test"'`` it would be fitted on the very images that are counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from edge_fgr.errors import UsageError
from edge_fgr.model import open_model
from edge_fgr.progress import progress
from edge_fgr_bench.answers import Share
from edge_fgr_bench.fold_figures import Answers, Figures, figures_of
from edge_fgr_bench.grouped import folds_of
from edge_fgr_bench.told import parser_of, told
from edge_fgr_bench.trained import claim, make, save_answers
from edge_fgr_export.parity import answers_of
from edge_fgr_train.catalog import open_dataset, write_index
from edge_fgr_train.dataset import Sample, labels_of, targets_of
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.links import DISTANCE
from edge_fgr_train.recipe import load_recipe

__all__ = ["cross_validate"]

_CHANGES = ('data.fit=["train"]', 'data.evaluate=""', 'data.calibration=""')


def cross_validate(
    data: str,
    out: Path,
    recipe: str,
    changes: Sequence[str] = (),
    count: int = 5,
    alike: int = DISTANCE,
) -> Answers:
    """Train and export ``count`` models and gather what they say of the images held out.

    Args:
        data: what ``edge_fgr_train.catalog`` opens.
        out: folder for all that is made; what is finished there is not done again.
        recipe: a file, or the name of a shipped recipe.
        changes: ``section.key=value`` items.
        count: of folds, at least two.
        alike: hashes of near-duplicates differ in at most so many bits.

    Raises:
        UsageError: ``out`` holds other folds, a class is too small for so many, or ``alike`` is not
            in 0 to 64.
        ModelError: a training or an export failed.
        EdgeFgrError: what ``open_dataset`` and ``load_recipe`` raise.
    """
    if not 0 <= alike <= 64:
        raise UsageError(f"--alike {alike}: hashes have 64 bits; give 0 to 64")
    changes = (*_CHANGES, *changes)
    read = asdict(load_recipe(recipe, changes))
    samples = open_dataset(data).samples
    labels = labels_of(samples)
    truth, groups = targets_of(samples, labels), groups_of(samples, alike)
    folds = folds_of(truth, groups, count)
    for inside, _ in folds:
        if lost := set(labels) - {samples[i].label for i in inside}:
            name = "/".join(min(lost))
            raise UsageError(f"{data}: {name} has too few near-duplicate groups for {count} folds")
    wanted = {"recipe": read, "folds": [[samples[i].name for i in own] for _, own in folds]}
    claim(out / "folds.json", wanted, "folds")
    fold = np.zeros(len(samples), np.intp)
    logits = np.zeros((len(samples), len(labels)), np.float32)
    temperature = np.ones(len(samples))
    with progress(count, "folds") as advance:
        for k, (inside, own) in enumerate(folds):
            home = out / str(k)
            held = [samples[i] for i in own]
            if not (home / "answers.npz").exists():
                parts = [replace(samples[i], split="train") for i in inside]
                parts += [replace(sample, split="test") for sample in held]
                write_index(home / "index.csv", parts)
                _make(home, recipe, changes)
                _answer(home, held, [truth[i] for i in own])
            with np.load(home / "answers.npz") as found:
                fold[own], logits[own], temperature[own] = k, found["logits"], found["temperature"]
            advance(1, "")
    names = tuple("/".join(label) for label in labels)
    return Answers(names, np.array(truth), np.array(groups), fold, logits, temperature)


def _make(home: Path, recipe: str, changes: Sequence[str]) -> None:
    """Train and export one fold, unless that is done."""
    run, model = home / "run", home / "model.onnx"
    steps = {
        run / "report.html": ("train", home / "index.csv", "-o", run, "--recipe", recipe,
                              *(word for change in changes for word in ("--set", change))),
        model: ("export", run, "-o", model),
    }  # fmt: skip
    make(home, steps)


def _answer(home: Path, held: Sequence[Sample], truth: Sequence[int]) -> None:
    model = open_model(home / "model.onnx", device="cpu")
    paths = [sample.path for sample in held]
    logits, _ = answers_of(model, paths, model.contract.geometry)
    save_answers(home / "answers.npz", held, truth, logits, model.contract.temperature)


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", required=True, metavar="NAME")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--count", type=int, default=5, help="of folds")
    parser.add_argument(
        "--alike", type=int, default=DISTANCE, metavar="BITS", help="0 to 64, of near-duplicates"
    )
    parser.add_argument("--good", default="", metavar="CLASS", help="all others are defects")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args(arguments)
    answers = cross_validate(
        options.data, options.out, options.recipe, options.changes, options.count, options.alike
    )
    figures = figures_of(answers, options.good)
    if options.json:
        print(json.dumps({"schema_version": 1} | asdict(figures), ensure_ascii=False))
    else:
        print("\n".join(_lines(figures)))
    return 0


def _lines(made: Figures) -> list[str]:
    """Return the table."""
    lines = [
        f"{made.images} images in {made.groups} groups of near-duplicates",
        f"{'top-1':24} {_shown(made.top1)}",
        f"{'  mean of the folds':24} {made.mean:7.2%}  sd {made.sd:.2%}",
        f"{'  errors of each fold':24} {', '.join(map(str, made.fold_errors))}",
        f"{'macro recall':24} {_shown(made.macro_recall)}",
        "",
        *(f"{one.label:24} {_shown(one.share)}  {one.images} images" for one in made.recalls),
    ]
    if (defects := made.defects) is None:
        return lines
    return [
        *lines,
        "",
        f"{f'{defects.good} against others':24} {defects.auc:7.4f}  area under the ROC curve",
        f"limit that at most {defects.allowed:.0%} of {defects.good} exceed, chosen on all scores:",
        f"{'  good rejected':24} {_shown(defects.pooled.good_rejected)}",
        f"{'  defects missed':24} {_shown(defects.pooled.missed)}",
        *(f"{f'    {one.label}':24} {_shown(one.share)}" for one in defects.missed),
        "limit of each fold chosen on the other folds:",
        f"{'  good rejected':24} {_shown(defects.fitted_apart.good_rejected)}",
        f"{'  defects missed':24} {_shown(defects.fitted_apart.missed)}",
    ]


def _shown(share: Share) -> str:
    return f"{share.value:7.2%}  ({share.low:.2%} to {share.high:.2%})"


if __name__ == "__main__":
    sys.exit(main())
