"""Which images of a data set serve for what, and what a run says about itself."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edge_fgr.contract import Confidence, Contract, Provenance
from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.checkpoint import Run
from edge_fgr_train.dataset import Dataset, Sample, digest_of, labels_of, read_list
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.shots import draw_shots

__all__ = [
    "CROSS_VALIDATION",
    "FITTED",
    "Split",
    "contract_of",
    "run_of",
    "split_again",
    "split_of",
]

CROSS_VALIDATION, FITTED = "cross-validation", "the images it was fitted on"
"""What judged a run that has no evaluation split, in the words of its report."""

_TO_FIT = ("train", "trainval")
_TO_EVALUATE = ("val", "valid", "validation")


@dataclass(frozen=True, slots=True)
class Split:
    """The images of a run; ``fit`` holds every class at least once.

    Attributes:
        origin: the data set, as ``open_dataset`` reads it again.
        folders: the data set's splits that the images stand in.
    """

    origin: str
    folders: Sequence[str]
    fit: Sequence[Sample]
    evaluate: Sequence[Sample]
    calibration: Sequence[Sample]


def split_of(data: str | Path, recipe: Recipe, recipe_name: str = "") -> Split:
    """List the images of each part, as the recipe says.

    Raises:
        InputMissingError: the data, the list, or a file of the list is missing.
        UsageError: fewer than two classes, a class whose images are all held out, or one with fewer
            images than ``data.shots`` asks for.
        ImageError: with ``data.shots``, an image to fit cannot be read.
    """
    dataset, to_fit, evaluated = _chosen(data, recipe)
    everything = dataset.of(*to_fit)
    held = _list(recipe.data.calibration, recipe_name) if recipe.data.calibration else frozenset()
    evaluate = dataset.of(evaluated) if evaluated else []
    known = {s.name: s for s in [*everything, *evaluate]}
    if absent := sorted(held - set(known)):
        raise InputMissingError(f"{data}: lacks {absent[0]}, which the calibration list names")
    fit = [s for s in everything if s.name not in held]
    if lost := set(labels_of(everything)) - set(labels_of(fit)):
        raise UsageError(f"{data}: all images of {'/'.join(min(lost))} are held out")
    if len(labels_of(fit)) < 2:
        raise UsageError(f"{data}: at least two classes are needed")
    if strange := set(labels_of(evaluate)) - set(labels_of(fit)):
        raise UsageError(f"{data}: {'/'.join(min(strange))} is evaluated but never trained")
    if recipe.data.shots:
        fit = draw_shots(fit, recipe.data.shots, recipe.data.draw)
    folders = [folder for folder in (*to_fit, evaluated) if folder]
    calibration = [known[name] for name in sorted(held)]
    return Split(dataset.origin, folders, fit, evaluate, calibration)


def split_again(made: Run, data: str | None, remedy: str) -> Split:
    """Find the images of a run: each serves for what it served.

    Args:
        made: the run.
        data: where its data set is now; None: where it was.
        remedy: what to do if it is not there.

    Raises:
        InputMissingError: the data set or an image of it is gone.
    """
    try:
        dataset = open_dataset(data or made.data, made.splits)
    except InputMissingError as error:
        raise InputMissingError(f"{error}; or {remedy}") from None
    known = {sample.name: sample for sample in dataset.samples}
    parts = []
    for names in (made.fit, made.evaluate, made.calibration):
        if gone := [name for name in names if name not in known]:
            raise InputMissingError(
                f"{dataset.origin}: lacks {gone[0]}, an image of the run; {remedy}"
            )
        parts.append([known[name] for name in names])
    return Split(dataset.origin, made.splits, *parts)


def run_of(split: Split, recipe: Recipe) -> Run:
    """Return what ``run.json`` says."""
    fit, evaluate, calibration = (
        tuple(sample.name for sample in part)
        for part in (split.fit, split.evaluate, split.calibration)
    )
    return Run(recipe, split.origin, tuple(split.folders), fit, evaluate, calibration)


def contract_of(split: Split, recipe: Recipe, confidence: Confidence | None = None) -> Contract:
    """Return the contract of a network trained on ``split``."""
    return Contract(
        name=recipe.name,
        version=recipe.version,
        labels=labels_of(split.fit),
        geometry=recipe.geometry,
        confidence=confidence,
        provenance=Provenance(
            recipe=recipe.name,
            data=f"{len(split.fit)} images, sha256:{digest_of(split.fit)}",
            commit=_commit(),
            licence=recipe.licence,
            notes=recipe.notes,
        ),
    )


def _chosen(data: str | Path, recipe: Recipe) -> tuple[Dataset, tuple[str, ...], str]:
    """Return the data set, its splits to fit, and the one to evaluate."""
    wanted, evaluated = recipe.data.fit, recipe.data.evaluate
    if wanted:
        splits = [*wanted, *([evaluated] if evaluated else [])]
        return open_dataset(data, splits), wanted, evaluated
    dataset = open_dataset(data)
    if not dataset.splits:
        return dataset, (), evaluated
    found = [split for split in _TO_FIT if split in dataset.splits]
    if not found:
        raise UsageError(
            f"{data}: has the splits {', '.join(dataset.splits)} but no train; "
            "say which to train on: --set 'data.fit=[\"…\"]'"
        )
    beside = [split for split in _TO_EVALUATE if split in dataset.splits]
    return dataset, (found[0],), evaluated or (beside[0] if beside else "")


def _list(name: str, recipe_name: str) -> frozenset[str]:
    beside = Path(recipe_name).parent / name
    shipped = Path(str(files("edge_fgr_train") / "recipes" / name))
    return read_list(beside if recipe_name and beside.exists() else shipped)


def _commit() -> str:
    """Return the commit of the training code, or an empty text outside a checkout."""
    answer = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip()
