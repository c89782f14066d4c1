"""Recalls of frequent and rare classes, and by how much they differ on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_fgr_bench.answers import Share
from edge_fgr_bench.estimates import percentiles

__all__ = ["DRAWS", "Figures", "figures_of", "thirds"]

Ints = npt.NDArray[np.intp]

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one way to train; intervals at 95 %.

    Attributes:
        fitted, judged, classes, seeds: how many.
        rarest, middle, frequent: mean recall of the thirds of the classes.
        macro: of all classes that were judged.
        top1: share of right answers.
        rarest_gain, middle_gain, frequent_gain, macro_gain, top1_gain: what they have more than the
            base, from -1 to 1.
    """

    fitted: int
    judged: int
    classes: int
    seeds: int
    rarest: Share
    middle: Share
    frequent: Share
    macro: Share
    top1: Share
    rarest_gain: Share
    middle_gain: Share
    frequent_gain: Share
    macro_gain: Share
    top1_gain: Share


def thirds(counts: Ints) -> tuple[Ints, Ints, Ints]:
    """Part classes ``(C,)`` by their images: the rarest third, the middle, the most frequent.

    Of classes of one size the first are the rarer; what three does not divide is in the middle.
    """
    order, size = np.argsort(counts, kind="stable"), len(counts) // 3
    return order[:size], order[size : len(order) - size], order[len(order) - size :]


def figures_of(counts: Ints, truth: Ints, answers: Ints, base: Ints) -> Figures:
    """Judge answers against those of the base.

    Args:
        counts: fitted images of each class ``(C,)``.
        truth: class of each judged image ``(N,)``, N at least 1.
        answers: of each seed ``(S, N)``.
        base: likewise.
    """
    right, other = ((said == truth).mean(0) for said in (answers, base))
    random = np.random.default_rng(0)
    known = np.unique(truth)
    # Stratified: every class keeps its number of images, and both sides see the same draws.
    recalls = np.empty((2, DRAWS, len(known)))
    for place, number in enumerate(known):
        of_class = truth == number
        size = int(of_class.sum())
        weights = random.multinomial(size, np.full(size, 1 / size), DRAWS) / size
        recalls[:, :, place] = weights @ right[of_class], weights @ other[of_class]
    exact = np.array([[side[truth == c].mean() for c in known] for side in (right, other)])
    sizes = np.array([(truth == c).sum() for c in known], np.float64)
    rare, middle, frequent = (np.isin(known, third).astype(float) for third in thirds(counts))
    shares = {
        "rarest": rare,
        "middle": middle,
        "frequent": frequent,
        "macro": np.ones(len(known)),
        "top1": sizes,
    }
    found = {}
    for name, of in shares.items():
        weights = of / max(of.sum(), 1)
        drawn = recalls @ weights
        value, against = exact @ weights
        found[name] = percentiles(float(value), drawn[0])
        found[f"{name}_gain"] = percentiles(float(value - against), drawn[0] - drawn[1])
    return Figures(int(counts.sum()), len(truth), len(counts), len(answers), **found)
