"""The plan of an ablation, read strictly from TOML; its images; what one run found."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_fgr.contract import Label, build
from edge_fgr.errors import ContractError, InputMissingError, ModelError, UsageError
from edge_fgr_bench.grouped import folds_of
from edge_fgr_train.catalog import open_dataset, write_index
from edge_fgr_train.dataset import Sample, labels_of, read_list, targets_of
from edge_fgr_train.duplicates import groups_of

__all__ = ["BASE", "Base", "DataSet", "Plan", "Result", "Variant", "Work", "images_for"]

BASE = "base"
"""Name of the variant that all others are compared with."""


@dataclass(frozen=True, slots=True)
class Base:
    """What all runs share.

    Attributes:
        recipe: a file, or the name of a shipped recipe.
        set: ``section.key=value`` changes of it.
    """

    recipe: str
    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images to train and to judge on. Their ``test`` is never opened.

    Attributes:
        name: of the data set in the plan and in the folder of results.
        folder: with ``train`` and ``val``, relative to the folder that the command line gives.
        classes: file beside the plan that lists the classes to use, one a line; empty: all.
        halves: ``train`` and ``val`` are taken together and halved, near-duplicates in one half,
            instead of fitting the one and judging the other.
        every: of the images to fit, every so many-th of each class.
        set: changes of the recipe for these images.
    """

    name: str
    folder: str
    classes: str = ""
    halves: bool = False
    every: int = 1
    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """Changes of the recipe that are tried together.

    Attributes:
        name: of the variant in the plan and in the folder of results.
        what: the same in words.
        set: ``section.key=value`` changes.
        teacher: the variant whose network, of the same images and seed, teaches this one.
    """

    name: str
    what: str
    set: tuple[str, ...] = ()
    teacher: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every variant is trained on every data set."""

    base: Base
    data: tuple[DataSet, ...]
    variant: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if any(one.every < 1 for one in self.data):
            raise ContractError("plan: every must be at least 1")
        for kind in (self.data, self.variant):
            names = [one.name for one in kind]
            for name in names:
                if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
                    raise ContractError(f"plan: {name!r} is no name; use a-z, 0-9, dot and dash")
                if names.count(name) > 1:
                    raise ContractError(f"plan: {name} is there twice; give each its own name")
        known = {one.name for one in self.variant}
        for one in self.variant:
            if one.teacher and (one.teacher not in known or self.named(one.teacher).teacher):
                raise ContractError(f"plan: {one.name}: {one.teacher} is no variant that can teach")
        if BASE not in [one.name for one in self.variant]:
            raise ContractError(f"plan: a variant named {BASE} is needed to compare with")

    def named(self, name: str) -> Variant:
        """Return a variant."""
        return next(one for one in self.variant if one.name == name)

    @property
    def teachers(self) -> set[str]:
        """Names of the variants that teach others."""
        return {one.teacher for one in self.variant if one.teacher}

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan.

        Raises:
            InputMissingError: there is none.
            UsageError: it is not TOML, or breaks a rule above.
        """
        try:
            plan: Plan = build(cls, tomllib.loads(path.read_text(encoding="utf-8")), "plan")
        except OSError:
            raise InputMissingError(f"{path}: no such plan; check the path") from None
        except (ContractError, ValueError) as error:
            raise UsageError(f"{path}: {error}") from None
        return plan


@dataclass(frozen=True, slots=True)
class Result:
    """What one run found; shares are 0 to 1.

    Attributes:
        recipe, changes: by which it was trained.
        fitted, judged: numbers of images.
        top1: of the images judged.
        nll: mean negative log likelihood of their classes in nats, at ``temperature``, which is
            the best single one for these very images: what is left when it is calibrated.
        seconds: of the training alone.
        threads: that it had.
    """

    recipe: str
    changes: tuple[str, ...]
    fitted: int
    judged: int
    top1: float
    nll: float
    temperature: float
    seconds: float
    threads: int


@dataclass(frozen=True, slots=True)
class Work:
    """One run of a plan."""

    plan: Plan
    data: DataSet
    variant: Variant
    seed: int

    @property
    def teacher(self) -> Work | None:
        """The run that teaches this one."""
        name = self.variant.teacher
        return replace(self, variant=self.plan.named(name)) if name else None

    def changes(self, out: Path) -> tuple[str, ...]:
        """Return all changes of the recipe, in order."""
        sets = (self.plan.base.set, self.data.set, self.variant.set)
        own = ('data.fit=["train"]', 'data.evaluate="val"', 'data.calibration=""')
        taught = (
            (f"teacher.runs={json.dumps([str(self.teacher.run(out))])}",) if self.teacher else ()
        )
        changes = (change for one in sets for change in one)
        return (*changes, f"optimise.seed={self.seed}", *own, *taught)

    def file(self, out: Path) -> Path:
        """Return where its result stands."""
        return out / self.data.name / self.variant.name / f"{self.seed}.json"

    def run(self, out: Path) -> Path:
        """Return the folder of its run, which is kept where it teaches."""
        return self.file(out).with_suffix(".run")

    def result(self, out: Path) -> Result | None:
        """Return what it found; None where it was not run, or by other changes than now.

        Raises:
            ModelError: the file is damaged.
        """
        path = self.file(out)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            found: Result = build(Result, raw, "result")
        except OSError:
            return None
        except (ContractError, ValueError) as error:
            raise ModelError(f"{path}: {error}; remove it to run it again") from None
        same = (found.recipe, found.changes) == (self.plan.base.recipe, self.changes(out))
        return found if same else None


def images_for(data: DataSet, shared: Path, lists: Path, out: Path) -> Path:
    """Write the index of a data set, ``train`` to fit and ``val`` to judge, and return its path.

    Args:
        data: which.
        shared: its folder is relative to this one.
        lists: folder of the lists of classes.
        out: folder of the results.

    Raises:
        InputMissingError: images or the list are missing.
        UsageError: a class of the list is not in both parts, or ``out`` holds results of other
            images.
    """
    samples: Sequence[Sample] = open_dataset(shared / data.folder, ("train", "val")).samples
    if data.classes:
        wanted = read_list(lists / data.classes)
        samples = [sample for sample in samples if "/".join(sample.label) in wanted]
        for split in ("train", "val"):
            there = {"/".join(sample.label) for sample in samples if sample.split == split}
            if lost := wanted - there:
                raise UsageError(f"{shared / data.folder}/{split}: lacks the class {min(lost)}")
    if data.halves:
        samples = _halved(samples)
    samples = _thinned(samples, data.every)
    path = out / f"{data.name}.csv"
    beside = out / f".{data.name}.csv"  # in the same folder: paths in it are relative to that
    write_index(beside, samples)
    try:
        if path.exists() and path.read_bytes() != beside.read_bytes():
            raise UsageError(f"{out}: holds results of other images of {data.name}; use a new one")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _halved(samples: Sequence[Sample]) -> list[Sample]:
    truth = targets_of(samples, labels_of(samples))
    inside, outside = folds_of(truth, groups_of(samples), 2)[0]
    fitted = [replace(samples[i], split="train") for i in inside]
    return fitted + [replace(samples[i], split="val") for i in outside]


def _thinned(samples: Sequence[Sample], every: int) -> list[Sample]:
    """Keep every so many-th image to fit of each class, the first one always; judge all."""
    met: Counter[Label] = Counter()
    kept = []
    for sample in samples:
        if sample.split != "train":
            kept.append(sample)
            continue
        if met[sample.label] % every == 0:
            kept.append(sample)
        met[sample.label] += 1
    return kept
