"""Two-sided decisions: is it one of these classes, or not?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from edge_fgr.decision import probabilities
from edge_fgr.errors import UsageError
from edge_fgr_export.resampled import Counted, Estimate, draws_of, estimate

__all__ = ["NOTICE", "Curves", "Decision", "TwoSided", "areas_of", "two_sided"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

NOTICE = (
    "Where the pictures are medical: this is no medical device, and these figures are no clinical "
    "validation; nobody may be diagnosed or treated by them."
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule decides. A share is None where no image could show it.

    Attributes:
        threshold: from which summed probability on an image is positive; None: where the model's
            answer is a positive class.
        sensitivity: positive decisions among the positive images.
        specificity: negative decisions among the negative images.
        ppv: positive images among the positive decisions, at this data's share of positive ones.
        npv: negative images among the negative decisions, likewise.
    """

    threshold: float | None
    sensitivity: Counted
    specificity: Counted
    ppv: Counted | None
    npv: Counted | None


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Points of the receiver operating characteristic, and of precision over recall."""

    false_positive: Doubles
    true_positive: Doubles
    recall: Doubles
    precision: Doubles


@dataclass(frozen=True, slots=True)
class TwoSided:
    """Positive classes against all others, by their summed probability.

    Attributes:
        positive: places of the positive classes.
        images: positive ones among all.
        decisions: that of the model's answer, and that of the threshold which was asked for.
        auc: area under the receiver operating characteristic.
        average_precision: precision at each recall that is reached, weighted by its step.
    """

    positive: tuple[int, ...]
    images: Counted
    decisions: tuple[Decision, ...]
    auc: Estimate
    average_precision: Estimate
    curves: Curves


def two_sided(
    logits: Floats,
    truth: Ints,
    positive: Sequence[int],
    temperature: float,
    threshold: float | None = None,
) -> TwoSided:
    """Judge a two-sided decision.

    Args:
        logits: ``(N, C)``.
        truth: the right classes ``(N,)``.
        positive: places of the positive classes.
        temperature: divisor of the logits before the softmax.
        threshold: of the summed probability, 0 to 1.

    Raises:
        UsageError: all classes of the model are positive, or all images are on one side.
    """
    chosen = sorted(set(positive))
    if len(chosen) == logits.shape[1]:
        raise UsageError("--positive: names all classes of the model; leave some out")
    is_positive = np.isin(truth, chosen)
    if is_positive.all() or not is_positive.any():
        side = "positive" if is_positive.all() else "negative"
        raise UsageError(
            f"--positive: all {len(truth)} images are {side}; give images of both sides"
        )
    score = probabilities(logits, temperature)[:, chosen].sum(axis=1)
    decisions = [_decision(np.isin(logits.argmax(axis=1), chosen), is_positive, None)]
    if threshold is not None:
        decisions.append(_decision(score >= threshold, is_positive, threshold))
    auc, precision = _areas(is_positive, score)
    rates = roc_curve(is_positive, score)
    points = precision_recall_curve(is_positive, score)
    return TwoSided(
        positive=tuple(chosen),
        images=Counted(int(is_positive.sum()), len(truth)),
        decisions=tuple(decisions),
        auc=auc,
        average_precision=precision,
        curves=Curves(rates[0], rates[1], points[1], points[0]),
    )


def _decision(said: Bools, truth: Bools, threshold: float | None) -> Decision:
    (tn, fp), (fn, tp) = confusion_matrix(truth, said, labels=[False, True]).tolist()
    return Decision(
        threshold=threshold,
        sensitivity=Counted(tp, tp + fn),
        specificity=Counted(tn, tn + fp),
        ppv=Counted(tp, tp + fp) if tp + fp else None,
        npv=Counted(tn, tn + fn) if tn + fn else None,
    )


def areas_of(truth: Bools, score: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Return area under the curve and average precision of weighted images, ``(R,)`` each.

    What scikit-learn computes with ``sample_weight``, of all rows at once and 100 times as fast.

    Args:
        truth: positive images ``(N,)``.
        score: ``(N,)``.
        weights: ``(R, N)``, of both sides more than 0.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]), 1))  # equal scores come together
    drawn, side = weights[:, order], truth[order]
    start = np.zeros((len(weights), 1))
    hits = np.hstack([start, np.cumsum(drawn * side, axis=1)[:, ends]])
    alarms = np.hstack([start, np.cumsum(drawn * ~side, axis=1)[:, ends]])
    auc = np.trapezoid(hits, alarms, axis=1) / (hits[:, -1] * alarms[:, -1])
    said = (hits + alarms)[:, 1:]
    precision = np.divide(hits[:, 1:], said, out=np.zeros_like(said), where=said > 0)
    return auc, (np.diff(hits, axis=1) * precision).sum(axis=1) / hits[:, -1]


def _areas(truth: Bools, score: Doubles) -> tuple[Estimate, Estimate]:
    """Return both with their intervals: images are resampled on each side."""
    drawn = [areas_of(truth, score, weights) for weights in draws_of(truth.astype(np.intp))]
    auc, precision = np.concatenate(drawn, axis=1)
    return (
        estimate(float(roc_auc_score(truth, score)), auc),
        estimate(float(average_precision_score(truth, score)), precision),
    )
