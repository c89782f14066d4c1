"""Answers of cross-validation to figures: how often right, and which defects a limit would miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from edge_fgr.decision import probabilities
from edge_fgr.errors import UsageError
from edge_fgr_bench.answers import Share
from edge_fgr_bench.grouped import macro_interval, macro_recall
from edge_fgr_bench.summary import wilson
from edge_fgr_export.operating_points import threshold_of

__all__ = ["Answers", "Counted", "Defects", "Figures", "Limit", "figures_of", "limit_of"]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

_ALLOWED = 0.05
"""Most of the good parts that may be rejected."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the models of all folds said of the images that they were not fitted on.

    Attributes:
        labels: names of the C classes.
        truth: class of each image ``(N,)``.
        groups: near-duplicates share one ``(N,)``.
        fold: that each image was held out in, from 0 ``(N,)``.
        logits: ``(N, C)``.
        temperature: of the model that answered ``(N,)``.
    """

    labels: tuple[str, ...]
    truth: Ints
    groups: Ints
    fold: Ints
    logits: Floats
    temperature: Floats


@dataclass(frozen=True, slots=True)
class Counted:
    """A share of the images of a class, with the interval of Wilson (1927)."""

    label: str
    images: int
    share: Share


@dataclass(frozen=True, slots=True)
class Limit:
    """What is rejected and missed by a limit: shares of the good, and of all others."""

    good_rejected: Share
    missed: Share


@dataclass(frozen=True, slots=True)
class Defects:
    """How well images of one class, the good, are told from all others by 1 - P(good).

    Attributes:
        good: name of that class.
        auc: area under the receiver operating characteristic, over all folds together.
        allowed: most of the good that a limit may reject.
        pooled: the limit was chosen on the very scores that it is counted on.
        missed: by it, for each other class.
        fitted_apart: the limit of each fold was chosen on the scores of the other folds: what a
            user may expect of new images.
    """

    good: str
    auc: float
    allowed: float
    pooled: Limit
    missed: tuple[Counted, ...]
    fitted_apart: Limit


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over all folds; intervals at 95 %.

    Attributes:
        images, groups: how many.
        top1: share of right answers, with Wilson's interval.
        fold_top1, fold_errors: the same share, and the number of wrong answers, fold by fold.
        mean, sd: of ``fold_top1``.
        macro_recall: mean recall of the classes; the interval is by bootstrap over groups.
        recalls: of every class.
        defects: None where no class was called good.
    """

    images: int
    groups: int
    top1: Share
    fold_top1: tuple[float, ...]
    fold_errors: tuple[int, ...]
    mean: float
    sd: float
    macro_recall: Share
    recalls: tuple[Counted, ...]
    defects: Defects | None


def figures_of(answers: Answers, good: str = "") -> Figures:
    """Count the answers.

    Args:
        answers: of at least two folds.
        good: name of the class that all others are defects of; empty: there is none.

    Raises:
        UsageError: there is no such class.
    """
    truth, said = answers.truth, answers.logits.argmax(axis=1)
    right = said == truth
    folds = [right[answers.fold == fold] for fold in np.unique(answers.fold)]
    shares = tuple(float(fold.mean()) for fold in folds)
    return Figures(
        images=len(truth),
        groups=len(np.unique(answers.groups)),
        top1=wilson(int(right.sum()), len(right)),
        fold_top1=shares,
        fold_errors=tuple(int((~fold).sum()) for fold in folds),
        mean=float(np.mean(shares)),
        sd=float(np.std(shares, ddof=1)),
        macro_recall=Share(macro_recall(truth, said), *macro_interval(truth, said, answers.groups)),
        recalls=_counted(answers, right, range(len(answers.labels))),
        defects=_defects(answers, good) if good else None,
    )


def limit_of(good: Floats, allowed: float = _ALLOWED) -> float:
    """Return the lowest limit that at most a share ``allowed`` of the scores ``(n,)`` lies above.

    A score that equals the limit is accepted.
    """
    return -threshold_of(-good, allowed)


def _defects(answers: Answers, name: str) -> Defects:
    if name not in answers.labels:
        known = ", ".join(answers.labels)
        raise UsageError(f"--good {name}: is no class of the data; known: {known}")
    place = answers.labels.index(name)
    scaled = answers.logits.astype(np.float64) / answers.temperature[:, None]
    score, good = 1 - probabilities(scaled)[:, place], answers.truth == place
    pooled = score > limit_of(score[good])
    apart = np.zeros_like(pooled)
    for fold in np.unique(answers.fold):
        here = answers.fold == fold
        apart[here] = score[here] > limit_of(score[good & ~here])
    others = [i for i in range(len(answers.labels)) if i != place]
    return Defects(
        good=name,
        auc=float(roc_auc_score(~good, score)),
        allowed=_ALLOWED,
        pooled=_limit(pooled, good),
        missed=_counted(answers, ~pooled, others),
        fitted_apart=_limit(apart, good),
    )


def _limit(rejected: Bools, good: Bools) -> Limit:
    return Limit(
        wilson(int(rejected[good].sum()), int(good.sum())),
        wilson(int((~rejected)[~good].sum()), int((~good).sum())),
    )


def _counted(answers: Answers, hit: Bools, classes: Sequence[int]) -> tuple[Counted, ...]:
    found = []
    for i in classes:
        of_class = hit[answers.truth == i]
        share = wilson(int(of_class.sum()), len(of_class))
        found.append(Counted(answers.labels[i], len(of_class), share))
    return tuple(found)
