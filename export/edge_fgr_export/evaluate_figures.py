"""How good answers are: from logits and the right classes to figures, each with its interval.

Pure numbers: no file and no image is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import top_k_accuracy_score

from edge_fgr.contract import Label
from edge_fgr.decision import probabilities
from edge_fgr.errors import ModelError, UsageError
from edge_fgr_export.resampled import Counted, Estimate, draws_of, estimate
from edge_fgr_train.confusion import confusion, has_coarse
from edge_fgr_train.evaluate import coarse_hits
from edge_fgr_train.reliability import Reliability, gaps, reliability

__all__ = ["Confused", "Figures", "OfClass", "Worst", "figures_of"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]

_TOP = 5


@dataclass(frozen=True, slots=True)
class OfClass:
    """How one class fared.

    Attributes:
        place: which class.
        recall: right answers among its images; None where the data has none.
        precision: right ones among the answers that name it; None where none does.
        taken_for: the most frequent wrong answer to its images; None where all are right.
        times: how often that is.
    """

    place: int
    recall: Counted | None
    precision: Counted | None
    taken_for: int | None
    times: int


@dataclass(frozen=True, slots=True)
class Confused:
    """Images of class ``truth`` that were taken for class ``answer``, among all of that class."""

    truth: int
    answer: int
    counted: Counted


@dataclass(frozen=True, slots=True)
class Worst:
    """The class with the lowest recall; of equal ones that with most images."""

    place: int
    images: int
    recall: Estimate


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over N images.

    Attributes:
        images: N.
        top1: right answers.
        top5: images whose class is among the five best; None where there are no more than five.
        macro: mean recall of the classes that the data has.
        worst: of these.
        coarse: answers whose first two path elements are right, by summed probability; None where
            labels have no depth.
        ece: expected calibration error, 15 bins.
        brier: mean squared distance from the truth, 0 to 2.
        bins: behind ``ece``.
        classes: every class of the model, in its order.
        confused: most images first; of equal counts the larger share.
        counts: images of class row that were taken for class column ``(C, C)``.
    """

    images: int
    top1: Counted
    top5: Counted | None
    macro: Estimate
    worst: Worst
    coarse: Counted | None
    ece: Estimate
    brier: Estimate
    bins: Reliability
    classes: tuple[OfClass, ...]
    confused: tuple[Confused, ...]
    counts: Ints


def figures_of(logits: Floats, truth: Ints, labels: Sequence[Label], temperature: float) -> Figures:
    """Judge answers.

    Args:
        logits: ``(N, C)``, N at least 1.
        truth: the right classes ``(N,)``.
        labels: class i of the logits.
        temperature: divisor of the logits before the softmax.

    Raises:
        ModelError: logits that are not finite.
        UsageError: all images are of one class.
    """
    strange = int((~np.isfinite(logits).all(axis=1)).sum())
    if strange:
        raise ModelError(
            f"the model gives logits that are no finite numbers for {strange} of {len(logits)} "
            "images"
        )
    if len(np.unique(truth)) < 2:
        only = "/".join(labels[int(truth[0])])
        raise UsageError(
            f"all images are of one class, {only}: nothing could be confused; give images of at "
            "least two"
        )
    values, said = probabilities(logits, temperature), logits.argmax(axis=1)
    total, right = len(truth), said == truth
    counts = confusion(truth, said, len(labels))
    bins = reliability(values, truth)
    macro, worst, ece, brier = _resampled(values, truth, right, counts, bins)
    coarse = None
    if has_coarse(labels):
        hits = coarse_hits(logits, truth.tolist(), labels, temperature)
        coarse = Counted(int(hits.sum()), total)
    top5 = None
    if len(labels) > _TOP:
        places = np.arange(len(labels))
        found = top_k_accuracy_score(truth, logits, k=_TOP, labels=places, normalize=False)
        top5 = Counted(int(found), total)
    return Figures(
        images=total,
        top1=Counted(int(right.sum()), total),
        top5=top5,
        macro=macro,
        worst=worst,
        coarse=coarse,
        ece=ece,
        brier=brier,
        bins=bins,
        classes=tuple(_of_class(counts, place) for place in range(len(labels))),
        confused=_confused(counts),
        counts=counts,
    )


def _resampled(
    values: Floats, truth: Ints, right: npt.NDArray[np.bool_], counts: Ints, bins: Reliability
) -> tuple[Estimate, Worst, Estimate, Estimate]:
    """Return macro recall, worst class, ECE and Brier score."""
    present, places = np.unique(truth, return_inverse=True)
    member = np.eye(len(present))[places] / np.bincount(places)[places, None]  # (N, K)
    gap = gaps(values.max(axis=1).astype(np.float64), right)
    distance = ((values - np.eye(values.shape[1])[truth]) ** 2).sum(axis=1)
    rows = []
    for weights in draws_of(truth):
        recalls = (weights * right) @ member
        errors = np.abs(weights @ gap).sum(axis=1) / len(truth)
        means = weights @ distance / len(truth)
        rows.append(np.stack([recalls.mean(axis=1), recalls.min(axis=1), errors, means]))
    drawn = np.concatenate(rows, axis=1)  # (4, DRAWS)
    of = counts.sum(axis=1)[present]
    recall = counts.diagonal()[present] / of
    place = int(np.lexsort((-of, recall))[0])
    least = estimate(float(recall[place]), drawn[1])
    # Resampling a class that is always or never right gives no spread: Wilson's interval does.
    low, high = Counted(int(counts[present[place], present[place]]), int(of[place])).interval
    ends = (min(low, least.interval[0]), max(high, least.interval[1]))
    return (
        estimate(float(recall.mean()), drawn[0]),
        Worst(int(present[place]), int(of[place]), Estimate(least.value, ends)),
        estimate(bins.ece, drawn[2]),
        estimate(bins.brier, drawn[3]),
    )


def _of_class(counts: Ints, place: int) -> OfClass:
    right, of, answers = (
        int(n) for n in (counts[place, place], counts[place].sum(), counts[:, place].sum())
    )
    others = counts[place].copy()
    others[place] = 0
    return OfClass(
        place=place,
        recall=Counted(right, of) if of else None,
        precision=Counted(right, answers) if answers else None,
        taken_for=int(others.argmax()) if others.any() else None,
        times=int(others.max()),
    )


def _confused(counts: Ints) -> tuple[Confused, ...]:
    of = counts.sum(axis=1).tolist()
    found = [
        Confused(row, column, Counted(int(counts[row, column]), of[row]))
        for row, column in np.argwhere(counts).tolist()
        if row != column
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.counted.count, pair.counted.of)))
