"""What helps rare classes? A recipe on a long tail, with and without changes, on the same images.

    python -m edge_fgr_bench.long_tail DATA OUT [--recipe default] [--common k=v ...]
                                       [--name NAME --set k=v ...] [--taus 0.5,1]
                                       [--seeds 0,1,2] [--split val|test] [--int8] [--json]
    python -m edge_fgr_bench.long_tail DATA --make-list LIST.txt

DATA is GroceryStoreDataset; ``long_tail.txt`` names the images of its ``train`` that are fitted:
the largest class has 50, the smallest 1. The recipe with the ``--common`` changes is trained as it
is, and again with those of ``--set``, by the command line in a process of its own. Both answer
``val``, or ``test`` with ``--split``; by the fp32 network, or with ``--int8`` by the exported file.
What is finished in OUT is not done again, so several ``--name`` share one base. ``--taus`` adds
what the base would say with adjusted logits (``balance.adjust = bias``): that needs no training.

Recalls are means over classes that have judged images: all (macro), and the thirds of the classes
by their fitted images. The interval of a difference is by bootstrap over images (10,000 draws,
stratified by class), in pairs, and over several seeds of the mean of their answers: it holds the
chance of the judged images, not that of training. A class with one judged image adds none.

OUT/NAME/plan.json        recipe and changes: others under the same name are refused
OUT/NAME/SEED/index.csv   ``train``: the list; ``val`` and ``test``
OUT/NAME/SEED/run         what ``train`` wrote; with ``--int8`` run/model.onnx beside it
OUT/NAME/SEED/*.npz       answers, by split and kind
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr.model import open_model
from edge_fgr_bench.tail_figures import Figures, figures_of
from edge_fgr_bench.told import parser_of, told
from edge_fgr_bench.trained import claim, make, save_answers
from edge_fgr_export.parity import answers_of
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.dataset import Sample, counts_of, labels_of, read_list, scan, targets_of
from edge_fgr_train.evaluate import logits_of
from edge_fgr_train.index import write_index
from edge_fgr_train.network import device_of
from edge_fgr_train.recipe import load_recipe

__all__ = ["BASE", "LIST", "compare", "thinned"]

LIST = Path(__file__).with_name("long_tail.txt")
"""The images to fit, relative to the data."""

BASE = "base"
"""Name of what has the common changes alone."""

_LARGEST, _RATIO, _SEED = 50, 50, 20261127
_FIXED = ('data.fit=["train"]', 'data.evaluate=""', 'data.calibration=""')
_HEAD = """\
# {images} images of GroceryStoreDataset's train (Klasson et al. 2019), {classes} classes: a long tail from
# {largest} images to {smallest}. Written by edge_fgr_bench.long_tail --make-list, and read by it.
"""  # noqa: E501


def thinned(samples: Sequence[Sample]) -> list[Sample]:
    """Thin classes exponentially, from 50 images to 1; equal at every call.

    Which class becomes how rare is drawn, so that it says nothing of how hard it is; but the first
    of the draw that has 50 images is the largest. Where a class has fewer images than its place
    asks for, it keeps all.

    Args:
        samples: to choose from.

    Raises:
        UsageError: no class is large enough, or there are fewer than three.
    """
    labels = labels_of(samples)
    of_class = {label: [s for s in samples if s.label == label] for label in labels}
    draws = np.random.default_rng(_SEED)
    order = [labels[i] for i in draws.permutation(len(labels))]
    large = [label for label in order if len(of_class[label]) >= _LARGEST]
    if not large or len(labels) < 3:
        raise UsageError(f"a long tail needs three classes, and {_LARGEST} images in one of them")
    order.remove(large[0])
    order.insert(0, large[0])
    kept: list[Sample] = []
    for place, label in enumerate(order):
        wanted = round(_LARGEST * _RATIO ** (-place / (len(order) - 1)))
        own = sorted(of_class[label])
        chosen = draws.permutation(len(own))[: max(1, wanted)]
        kept += [own[i] for i in sorted(chosen)]
    return kept


def compare(
    data: Path,
    out: Path,
    recipe: str,
    plans: dict[str, Sequence[str]],
    seeds: Sequence[int],
    split: str = "val",
    *,
    int8: bool = False,
    names: frozenset[str] | None = None,
    taus: Sequence[float] = (),
) -> dict[str, Figures]:
    """Train what ``plans`` names, and judge each against the first.

    Args:
        data: folder with ``train`` and the split.
        out: folder for all that is made.
        recipe: a file, or the name of a shipped recipe.
        plans: by name, ``section.key=value`` items; the first is the base.
        seeds: of the trainings.
        split: what is judged.
        int8: judge the exported file instead of the network.
        names: images to fit, relative to ``data``; None: the committed list.
        taus: strengths at which the first is judged again, its logits adjusted.

    Raises:
        InputMissingError: an image of the list is not there.
        UsageError: OUT holds something else under one of these names.
        ModelError: a training or an export failed.
    """
    names = read_list(LIST) if names is None else names
    everything = scan(data, tuple(dict.fromkeys(["train", split])))
    fit = [s for s in everything if s.split == "train" and s.name in names]
    if absent := names - {s.name for s in fit}:
        raise InputMissingError(f"{data}: lacks {min(absent)}, which the list names")
    labels = labels_of(fit)
    judged = [s for s in everything if s.split == split and s.label in set(labels)]
    truth = np.array(targets_of(judged, labels))
    counts = np.array(counts_of(fit, labels))
    answers: dict[str, npt.NDArray[np.intp]] = {}
    for name, changes in plans.items():
        home = out / name
        whole = (*_FIXED, *changes)
        wanted = {"recipe": asdict(load_recipe(recipe, whole)), "fit": sorted(names)}
        claim(home / "plan.json", wanted, "trainings")
        found = []
        for seed in seeds:
            place = home / str(seed)
            kept = place / f"{split}-{'int8' if int8 else 'fp32'}.npz"
            if not kept.exists():
                write_index(place / "index.csv", fit)
                _make(place, recipe, (*whole, f"optimise.seed={seed}"), int8=int8)
                logits, temperature = _logits(place / "run", judged, int8=int8)
                save_answers(kept, judged, truth.tolist(), logits, temperature)
            with np.load(kept) as read:
                found.append(read["logits"])
        answers[name] = np.stack(found).argmax(2)  # (S, N, C) to (S, N)
        for tau in taus if name == next(iter(plans)) else ():
            adjusted = np.stack(found) - tau * np.log(counts / counts.sum())
            answers[f"{name} tau {tau:g}"] = adjusted.argmax(2)
    base = answers[next(iter(plans))]
    return {name: figures_of(counts, truth, said, base) for name, said in answers.items()}


def _make(place: Path, recipe: str, changes: Sequence[str], *, int8: bool) -> None:
    """Train and export, unless that is done."""
    run, model = place / "run", place / "run" / "model.onnx"
    words = [word for change in changes for word in ("--set", change)]
    train = ("train", place / "index.csv", "-o", run, "--recipe", recipe, *words)
    steps: dict[Path, Sequence[object]] = {run / "report.html": train}
    if int8:
        steps[model] = ("export", run, "-o", model)
    make(place, steps)


def _logits(
    run: Path, judged: Sequence[Sample], *, int8: bool
) -> tuple[npt.NDArray[np.float32], float]:
    """Return logits ``(N, C)`` and the temperature of the file, or of the network."""
    paths = [sample.path for sample in judged]
    if int8:
        model = open_model(run / "model.onnx", device="cpu")
        logits, _ = answers_of(model, paths, model.contract.geometry)
        return logits, model.contract.temperature
    network, contract, _ = load_network(run)
    network.to(device_of("auto"))
    return logits_of(network, paths, contract.geometry), contract.temperature


def _make_list(data: Path, path: Path) -> None:
    kept = thinned(scan(data, ("train",)))
    labels = labels_of(kept)
    counts = counts_of(kept, labels)
    head = _HEAD.format(
        images=len(kept), classes=len(labels), largest=max(counts), smallest=min(counts)
    )
    atomic_write(path, head + "".join(f"{sample.name}\n" for sample in kept))


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--recipe", default="default", metavar="NAME")
    parser.add_argument("--common", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name", default="changed")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--taus", default="", metavar="TAU,...", help="of the base, adjusted")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--int8", action="store_true", help="judge the exported file")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    parser.add_argument("--make-list", type=Path, metavar="LIST", help="write it, and do no more")
    options = parser.parse_args(arguments)
    if options.make_list is not None:
        _make_list(options.data, options.make_list)
        return 0
    if options.out is None:
        raise UsageError("OUT is missing: a folder for what is trained")
    if options.changes and options.name == BASE:
        raise UsageError(f"--name {BASE}: is that of the recipe without --set; choose another")
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
        taus = [float(tau) for tau in options.taus.split(",") if tau]
    except ValueError:
        raise UsageError("--seeds and --taus: numbers with commas, like 0,1") from None
    plans: dict[str, Sequence[str]] = {BASE: options.common}
    if options.changes:
        plans[options.name] = [*options.common, *options.changes]
    found = compare(
        options.data, options.out, options.recipe, plans, seeds, options.split,
        int8=options.int8, taus=taus,
    )  # fmt: skip
    if options.json:
        facts: dict[str, Any] = {name: asdict(figures) for name, figures in found.items()}
        print(json.dumps({"schema_version": 1, "split": options.split, "figures": facts}))
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Figures]) -> list[str]:
    first = found[BASE]
    lines = [
        f"{first.fitted} images fitted, {first.judged} judged, {first.seeds} seeds; recall of the "
        f"{first.classes} classes in thirds by their fitted images",
        f"{'':14} {'rarest':>8} {'middle':>8} {'frequent':>8} {'macro':>8} {'top-1':>8}",
    ]
    for name, made in found.items():
        values = (made.rarest, made.middle, made.frequent, made.macro, made.top1)
        lines.append(f"{name:14} " + " ".join(f"{value.value:8.2%}" for value in values))
    for name, made in found.items():
        if name != BASE:
            lines += [f"{name} less {BASE}, points:"]
            for what in ("rarest", "middle", "frequent", "macro", "top1"):
                gain = getattr(made, f"{what}_gain")
                low, high = 100 * gain.low, 100 * gain.high
                lines.append(f"  {what:12} {100 * gain.value:+7.2f}  ({low:+.2f} to {high:+.2f})")
    return lines


if __name__ == "__main__":
    sys.exit(main())
