"""The operating point of a quality line: from which probability on is a part accepted?

An image is accepted when the probability of one class reaches a threshold and the model does not
call it unknown; that is what ``edge_fgr.verdict`` does with a stored point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label, OperatingPoint
from edge_fgr.errors import UsageError
from edge_fgr_export.resampled import Counted

__all__ = ["Judged", "allowed", "choose", "judge", "threshold_of"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

_ROUNDING = 1e-9
"""A share of 0.05 of 40 images is two."""

_SLACK = 1e-6
"""Logits of float graphs differ in their last digits from machine to machine, and no part that was
accepted here is to be rejected for that."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What an operating point does to the images at hand.

    Attributes:
        point: what it is; its counts are of the images that it was chosen on.
        chosen: whether these are those images.
        good_rejected: of the images of the accepted class, those that are not accepted.
        unknown: how many of these the model calls unknown.
        missed: of the images of all other classes, those that are accepted; None where there are
            none.
        by_class: the same for each other class that the data has, by its place; the largest share
            first.
    """

    point: OperatingPoint
    chosen: bool
    good_rejected: Counted
    unknown: int
    missed: Counted | None
    by_class: tuple[tuple[int, Counted], ...]


def allowed(share: float, images: int) -> int:
    """Return how many of ``images`` a share is at most."""
    return math.floor(share * images + _ROUNDING)


def threshold_of(scores: Floats, share: float) -> float:
    """Return the highest threshold that at most ``share`` of the scores ``(n,)`` lie below.

    So of all thresholds that keep the share, none accepts fewer other images.

    Args:
        scores: at least one; one that equals the threshold is accepted.
        share: 0 to below 1.
    """
    return float(np.sort(scores)[allowed(share, len(scores))])


def choose(
    scores: Floats, unknown: Bools, truth: Ints, labels: Sequence[Label], place: int, share: float
) -> Judged:
    """Choose the point that rejects at most ``share`` of a class, and accepts fewest others.

    Args:
        scores: probability of the accepted class ``(N,)``.
        unknown: images that the model calls unknown, which are rejected ``(N,)``.
        truth: the right classes ``(N,)``.
        labels: of all classes.
        place: the accepted class.
        share: above 0 and below 1.

    Raises:
        UsageError: it cannot be reached; the message says the nearest that can.
    """
    name, good = "/".join(labels[place]), truth == place
    count, strange = int(good.sum()), int((good & unknown).sum())
    if not count:
        raise UsageError(f"--accept {name}: the data has no image of it; give some")
    if count == len(truth):
        raise UsageError(f"--accept {name}: the data has no image of any other class; give some")
    if not allowed(share, count):
        raise UsageError(
            f"--max-false-reject {share:g}: cannot be shown by {count} images of {name}, which "
            f"takes {math.ceil(1 / share - _ROUNDING)}; {_nearest(1, count)}"
        )
    if strange > allowed(share, count):
        raise UsageError(
            f"--max-false-reject {share:g}: the model calls {strange} of {count} images of {name} "
            f"unknown, and these are rejected at any threshold; {_nearest(strange, count)}"
        )
    if np.ptp(scores[~unknown]) == 0:
        raise UsageError(
            f"--accept {name}: all images have one probability of it, {scores[~unknown][0]:.6g}; "
            "no threshold tells them apart"
        )
    ranked = _ranked(scores, unknown)
    exact = threshold_of(ranked[good], share)
    if exact <= 0:
        raise UsageError(
            f"--max-false-reject {share:g}: to keep it, images with probability 0 of {name} would "
            f"be accepted; {_nearest(int((ranked[good] <= 0).sum()), count)}"
        )
    below = ranked[ranked < exact].max(initial=0.0)
    threshold = (max(float(below), exact - _SLACK) + exact) / 2
    accepted = ranked >= threshold
    point = OperatingPoint(
        label=tuple(labels[place]),
        threshold=threshold,
        max_false_reject=share,
        accepted=int((accepted & good).sum()),
        rejected=int((~accepted & good).sum()),
        missed=int((accepted & ~good).sum()),
        found=int((~accepted & ~good).sum()),
    )
    return _judged(point, accepted, unknown, truth, place, chosen=True)


def judge(point: OperatingPoint, scores: Floats, unknown: Bools, truth: Ints, place: int) -> Judged:
    """Return what a point that was chosen before does to other images, at least one of its class.

    Args:
        point: accepts class ``place``.
        scores: as ``choose``.
        unknown: as ``choose``.
        truth: as ``choose``.
        place: as ``choose``.
    """
    accepted = _ranked(scores, unknown) >= point.threshold
    return _judged(point, accepted, unknown, truth, place, chosen=False)


def _judged(
    point: OperatingPoint,
    accepted: Bools,
    unknown: Bools,
    truth: Ints,
    place: int,
    *,
    chosen: bool,
) -> Judged:
    good = truth == place
    by_class = [
        (i, Counted(int(accepted[truth == i].sum()), int((truth == i).sum())))
        for i in np.unique(truth[~good]).tolist()
    ]
    others = int((~good).sum())
    return Judged(
        point=point,
        chosen=chosen,
        good_rejected=Counted(int((~accepted & good).sum()), int(good.sum())),
        unknown=int((unknown & good).sum()),
        missed=Counted(int((accepted & ~good).sum()), others) if others else None,
        by_class=tuple(sorted(by_class, key=lambda each: -each[1].share)),
    )


def _ranked(scores: Floats, unknown: Bools) -> Doubles:
    """Return the scores; an unknown image is rejected at any threshold, so nothing is lower."""
    return np.where(unknown, -np.inf, scores)


def _nearest(rejected: int, images: int) -> str:
    """Say the least share, in four places, that lets so many be rejected; below 1 or none."""
    share = math.ceil(1e4 * rejected / images - _ROUNDING) / 1e4
    return f"the nearest that can be is {share:g}" if share < 1 else "no share can be"
