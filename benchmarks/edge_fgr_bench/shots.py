"""Few shots: how often is a model right that saw K images of each class? Over several draws.

    python -m edge_fgr_bench.shots DATA OUT [--shots 5] [--draws 5] [--list FILE] [--split val]
                                   [--recipe NAME] [--head HEAD] [--set k=v ...] [--int8] [--json]
    python -m edge_fgr_bench.shots DATA FILE --write [--shots 5] [--draws 5]

Each draw takes K images of each class out of ``train``, as ``edge-fgr train --shots K --set
data.draw=SEED`` does for seeds 0, 1, …, or as FILE says: ``flowers17`` names the committed one.
It is trained by the command line in a process of its own and judged on all images of ``--split``,
by the network as it was trained, or with ``--int8`` by the exported file. What is finished in OUT
is not done again. Choose on ``val``; read ``test`` once. ``--write`` writes the draws and ends.

Beside each draw stands the honest baseline: the nearest class mean on frozen features of the same
backbone and input size (``edge_fgr_train.nearest``), fitted to the same images.

OUT/shots.json      recipe, draws and judged images: others are refused
OUT/K/index.csv     the images of draw K: ``train``, and ``held`` for those that are judged
OUT/K/run           what ``train`` wrote
OUT/K/model.onnx    with ``--int8``: what ``export`` wrote
OUT/K/answers.npz   names, truth and logits of the judged images
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edge_fgr.errors import UsageError
from edge_fgr.model import open_model
from edge_fgr.progress import progress
from edge_fgr_bench.draws import FIT, checked, drawn, read_draws, write_draws
from edge_fgr_bench.told import parser_of, told
from edge_fgr_bench.trained import claim, make, save_answers
from edge_fgr_export.parity import answers_of
from edge_fgr_train.catalog import open_dataset, write_index
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.dataset import Sample, labels_of, targets_of
from edge_fgr_train.evaluate import logits_of
from edge_fgr_train.features import embed
from edge_fgr_train.nearest import frozen_source, hits
from edge_fgr_train.recipe import load_recipe

__all__ = ["Figures", "Plan", "few_shots"]

_CHANGES = ('data.fit=["train"]', 'data.evaluate=""', 'data.calibration=""')


@dataclass(frozen=True, slots=True)
class Plan:
    """How each draw is trained.

    Attributes:
        recipe: a file or a shipped recipe; empty: ``few-shots``, or ``chain`` with ``head``.
        head: of a chain; empty: a network is trained.
        changes: ``section.key=value`` items.
        int8: judge the exported file.
    """

    recipe: str = ""
    head: str = ""
    changes: tuple[str, ...] = ()
    int8: bool = False

    @property
    def name(self) -> str:
        """The recipe that is trained by."""
        return self.recipe or ("chain" if self.head else "few-shots")

    def all_changes(self) -> list[str]:
        """Return what is changed of the recipe."""
        head = [f'chain.head="{self.head}"'] if self.head else []
        return [*_CHANGES, *self.changes, *head]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; shares are 0 to 1.

    Attributes:
        shots: images of each class.
        images: judged by every draw.
        top1, baseline: of each draw.
        mean, sd: over the draws, of ``top1``; ``sd`` is 0 for one draw.
        baseline_mean, baseline_sd: the same of ``baseline``; None where no frozen features exist.
    """

    shots: int
    split: str
    images: int
    top1: tuple[float, ...]
    mean: float
    sd: float
    baseline: tuple[float, ...]
    baseline_mean: float | None
    baseline_sd: float | None


def few_shots(
    data: str, out: Path, draws: Sequence[Sequence[str]], plan: Plan, split: str = "val"
) -> Figures:
    """Train a model for each draw and judge it.

    Args:
        data: what ``edge_fgr_train.catalog`` opens.
        out: folder for all that is made; what is finished there is not done again.
        draws: names of the images of each, equally many of every class.
        plan: how they are trained.
        split: what is judged.

    Raises:
        UsageError: draws do not fit the data, or ``out`` holds other ones.
        InputMissingError: an image of a draw is not there.
        ModelError: a training or an export failed.
        EdgeFgrError: what ``open_dataset`` and ``load_recipe`` raise.
    """
    if split == FIT:
        raise UsageError(f"--split {split}: is what draws are taken from; judge val or test")
    dataset = open_dataset(data, (FIT, split))
    held, labels = dataset.of(split), labels_of(dataset.of(FIT))
    if strange := set(labels_of(held)) - set(labels):
        raise UsageError(f"{data}: {'/'.join(min(strange))} is judged but never trained")
    chosen = [checked(dataset, draw, len(labels)) for draw in draws]
    shots = len(chosen[0]) // len(labels)
    recipe = load_recipe(plan.name, [*plan.all_changes(), f"data.shots={shots}"])
    wanted = {
        "recipe": asdict(recipe),
        "int8": plan.int8,
        "draws": [[sample.name for sample in draw] for draw in chosen],
        "judged": [sample.name for sample in held],
    }
    claim(out / "shots.json", wanted, "draws")
    truth, top1 = targets_of(held, labels), []
    with progress(len(chosen), "draws") as advance:
        for k, draw in enumerate(chosen):
            home = out / str(k)
            if not (home / "answers.npz").exists():
                parts = [replace(sample, split=FIT) for sample in draw]
                write_index(home / "index.csv", [*parts, *(replace(s, split="held") for s in held)])
                _make(home, plan, shots)
                _answer(home, held, truth, plan)
            with np.load(home / "answers.npz") as found:
                top1.append(float((found["logits"].argmax(axis=1) == truth).mean()))
            advance(1, "")
    baseline: list[float] = []
    if source := frozen_source(recipe):
        known = sorted({sample for draw in chosen for sample in draw})
        place = {sample: i for i, sample in enumerate(known)}
        rows = embed(source, [*known, *held])
        for draw in chosen:
            own = rows[[place[sample] for sample in draw]]
            right = hits(own, targets_of(draw, labels), rows[len(known) :], truth)
            baseline.append(float(right.mean()))
    mean, sd = _mean(top1)
    return Figures(
        shots, split, len(held), tuple(top1), mean, sd, tuple(baseline),
        *(_mean(baseline) if baseline else (None, None)),
    )  # fmt: skip


def _make(home: Path, plan: Plan, shots: int) -> None:
    """Train one draw, and export it if that is judged, unless that is done."""
    run, model = home / "run", home / "model.onnx"
    changes = [word for change in plan.all_changes() for word in ("--set", change)]
    recipe = ("--recipe", plan.name)
    train = ("train", home / "index.csv", "-o", run, "--shots", shots, *recipe, *changes)
    steps: dict[Path, Sequence[object]] = {run / "report.html": train}
    if plan.int8:
        steps[model] = ("export", run, "-o", model)
    make(home, steps)


def _answer(home: Path, held: Sequence[Sample], truth: Sequence[int], plan: Plan) -> None:
    paths = [sample.path for sample in held]
    if plan.int8:
        model = open_model(home / "model.onnx", device="cpu")
        logits, _ = answers_of(model, paths, model.contract.geometry)
        save_answers(home / "answers.npz", held, truth, logits, model.contract.temperature)
        return
    network, contract, _ = load_network(home / "run")
    logits = logits_of(network, paths, contract.geometry)
    save_answers(home / "answers.npz", held, truth, logits, contract.temperature)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation over draws."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shots", type=int, default=5, help="images of each class")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--list", default="", metavar="FILE", help="draws; flowers17 is committed")
    parser.add_argument("--write", action="store_true", help="write the draws to OUT and end")
    parser.add_argument("--split", default="val", help="what is judged")
    parser.add_argument("--recipe", default="", metavar="NAME")
    parser.add_argument("--head", default="", help="of a chain, as edge-fgr train takes it")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--int8", action="store_true", help="judge the exported INT8 files")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.write:
        write_draws(options.data, options.out, options.shots, options.draws)
        return 0
    draws = (
        read_draws(options.list)
        if options.list
        else drawn(options.data, options.shots, options.draws)
    )
    plan = Plan(options.recipe, options.head, tuple(options.changes), options.int8)
    figures = few_shots(options.data, options.out, draws, plan, options.split)
    if options.json:
        print(json.dumps({"schema_version": 1} | asdict(figures)))
    else:
        print("\n".join(_lines(figures)))
    return 0


def _lines(found: Figures) -> list[str]:
    """Return the table."""
    beside = found.baseline or (None,) * len(found.top1)
    pairs = enumerate(zip(found.top1, beside, strict=True))
    return [
        f"{found.shots} images a class; {found.images} images of {found.split}, top-1",
        f"{'draw':6} {'this':>9} {'nearest class mean on frozen features':>40}",
        *(f"{k:<6} {own:9.2%} {_shown(other):>40}" for k, (own, other) in pairs),
        f"{'mean':6} {found.mean:9.2%} {_shown(found.baseline_mean):>40}",
        f"{'sd':6} {found.sd:9.2%} {_shown(found.baseline_sd):>40}",
    ]


def _shown(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"


if __name__ == "__main__":
    sys.exit(main())
