"""Fit all of a contract's confidence on logits of the exported graph and the right classes.

The images must be kept out of training. What each number promises holds for images that come from
where these came from; docs/confidence.md says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from edge_fgr.confidence import BackOff, Confidence, Conformal, Unknown
from edge_fgr.contract import Label
from edge_fgr.decision import probabilities, roll_up, unknown_score
from edge_fgr.errors import ModelError
from edge_fgr_train.temperature import fit_temperature

__all__ = ["COVERAGES", "fit_back_off", "fit_confidence", "fit_conformal", "fit_unknown"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages that sets of labels are fitted for."""

_GRID = (0.99, 0.98, 0.97, 0.96, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Thresholds that are tried for a level, strict to loose: chosen before any image is seen.

None is below a half: a name that is more likely wrong than right is not said, however well the
sure ones make up for it, and where images differ from the calibration that is what helps.
"""

_STARTS = (0.99, 0.9, 0.7)
"""Where testing starts. More starts survive an error at one, and need more images at each."""


def fit_confidence(
    logits: npt.NDArray[np.floating],
    targets: Sequence[int],
    labels: Sequence[Label],
    *,
    scores: npt.NDArray[np.floating] | None = None,
    fitted_on: str = "calibration",
    unknown_share: float = 0.05,
    precision: float = 0.95,
    certainty: float = 0.95,
) -> Confidence:
    """Fit temperature, unknown threshold, conformal quantiles and back-off thresholds.

    Args:
        logits: ``(N, C)``, float32, as the exported graph gives them.
        targets: the right classes, 0 to C - 1.
        labels: a path per class.
        scores: how familiar each image is, ``(N,)`` of ``edge_fgr.familiar``; None: as logits say.
        fitted_on: what the images are to the run.
        unknown_share: at most this share of known images may be called unknown.
        precision: share of right answers that is promised for each level.
        certainty: how sure that promise must be.

    Raises:
        ModelError: no images, or logits that are not finite.
    """
    if not len(targets):
        raise ModelError("confidence: no images to fit on")
    if not np.isfinite(logits).all():
        raise ModelError("confidence: the graph gives logits that are not finite numbers")
    temperature = fit_temperature(logits, [int(target) for target in targets])
    values = probabilities(logits, temperature)
    return Confidence(
        temperature=temperature,
        unknown=fit_unknown(logits, unknown_share, scores),
        conformal=fit_conformal(values, targets),
        back_off=fit_back_off(values, targets, labels, precision=precision, certainty=certainty),
        images=len(targets),
        fitted_on=fitted_on,
    )


def fit_unknown(logits: Floats, share: float, scores: Floats | None = None) -> Unknown | None:
    """Return the largest threshold that calls at most ``share`` of known images unknown.

    Split conformal: with k = floor(share · (n + 1)), a new known image falls below the k-th
    smallest of n scores with probability at most k / (n + 1) (Vovk et al. 2005; for outliers Bates
    et al., Annals of Statistics 2023). None where k is 0: too few images.
    """
    rising = np.sort(unknown_score(logits) if scores is None else scores)
    place = floor(round(share * (len(rising) + 1), 9))
    if not place:
        return None
    kind: Literal["max_minus_mean", "whitened_cosine"]
    kind = "max_minus_mean" if scores is None else "whitened_cosine"
    return Unknown(kind, float(rising[place - 1]), share)


def fit_conformal(values: Floats, targets: Sequence[int]) -> Conformal | None:
    """Return the quantiles of 1 - p(truth), at rank ceil(coverage · (n + 1)) of n images.

    The score is of Sadinle, Lei and Wasserman (JASA 2019), the rank of split conformal prediction
    (Angelopoulos and Bates, "A gentle introduction to conformal prediction", 2021, section 1). A
    coverage whose rank is above n is left out. Quantiles are rounded up, which only widens a set:
    the last digits of a softmax may differ between machines.
    """
    scores = np.sort(1 - values[np.arange(len(targets)), np.asarray(targets)])
    ranks = [(coverage, ceil(round(coverage * (len(scores) + 1), 9))) for coverage in COVERAGES]
    quantiles = tuple(
        (coverage, min(1.0, ceil(scores[rank - 1] * 1e6) / 1e6))
        for coverage, rank in ranks
        if rank <= len(scores)
    )
    return Conformal("lac", quantiles) if quantiles else None


def fit_back_off(
    values: Floats,
    targets: Sequence[int],
    labels: Sequence[Label],
    *,
    precision: float = 0.95,
    certainty: float = 0.95,
) -> BackOff | None:
    """Return for each depth the loosest threshold that keeps the promise, or None if none does.

    A threshold must pass two conditions. Of all images whose best class at that depth reaches it,
    more than ``precision`` are right: shown by exact binomial tests in a fixed sequence, with
    several starts that share the error (Angelopoulos et al. 2021, "Learn then Test"). And of those
    that no deeper level answers, at least ``precision`` are right as counted: a coarse answer is
    not carried by images that were never in doubt.
    """
    thresholds: list[float | None] = []
    open_yet = np.ones(len(targets), np.bool_)
    for depth in range(max(map(len, labels)), 0, -1):
        coarse, sums = roll_up(values, labels, depth)
        place = {label: i for i, label in enumerate(coarse)}
        truth = np.array([place[labels[target][:depth]] for target in targets])
        sure, right = sums.max(axis=1), sums.argmax(axis=1) == truth
        found = None
        for threshold in _shown(sure, right, precision, certainty):
            answered = open_yet & (sure >= threshold)
            if not answered.any() or right[answered].mean() >= precision:
                found = threshold
                open_yet &= ~answered
                break
        thresholds.insert(0, found)
    if all(threshold is None for threshold in thresholds):
        return None
    return BackOff(precision, certainty, tuple(thresholds))


def _shown(sure: Floats, right: Bools, precision: float, certainty: float) -> list[float]:
    """Return the thresholds of the grid that hold ``precision``, loosest first.

    All of them do at once with probability ``certainty`` at least.
    """
    shown = set()
    level = (1 - certainty) / len(_STARTS)
    for start in _STARTS:
        for threshold in _GRID[_GRID.index(start) :]:
            chosen = sure >= threshold
            wrong = int((chosen & ~right).sum())
            # How likely so few errors are, were the precision no better than promised.
            if binom.cdf(wrong, int(chosen.sum()), 1 - precision) > level:
                break
            shown.add(threshold)
    return sorted(shown)
