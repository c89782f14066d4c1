"""Shares of right answers and their 95 % intervals, by bootstrap where there is no formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge_fgr_bench.answers import Share
from edge_fgr_train.reliability import gaps

__all__ = ["calibration", "difference", "macro", "percentiles"]

Ints = npt.NDArray[np.integer]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ROUNDS, _ROWS = 1000, 50


def macro(right: Bools, truths: Ints) -> Share:
    """Return the mean over the classes that occur of their share of right answers.

    Args:
        right: ``(N,)``, N at least 1.
        truths: classes ``(N,)``.
    """
    _, places = np.unique(truths, return_inverse=True)
    member = np.eye(places.max() + 1)[places]  # (N, K)

    def figure(weights: Doubles) -> Doubles:
        total, hits = weights @ member, (weights * right) @ member
        shares = np.divide(hits, total, out=np.full_like(total, np.nan), where=total > 0)
        mean: Doubles = np.nanmean(shares, axis=1)
        return mean

    return _bootstrap(figure, len(right))


def calibration(values: Doubles, right: Bools) -> Share:
    """Return the expected calibration error over 15 equal bins (Guo et al., ICML 2017).

    Chance alone makes it larger than 0 for a model that is calibrated, the more so the fewer
    images there are; the interval is of the figure, not of that ideal.

    Args:
        values: probabilities of the answers ``(N,)``.
        right: ``(N,)``.
    """
    member = gaps(values, right)

    def figure(weights: Doubles) -> Doubles:
        errors: Doubles = np.abs(weights @ member).sum(axis=1) / weights.sum(axis=1)
        return errors

    return _bootstrap(figure, len(values))


def difference(lost: int, won: int, total: int) -> Share:
    """Return (lost - won) / total with its interval for pairs (Agresti and Min, 2005, section 3).

    Half an image is added to each of the four counts for the interval alone.
    """
    value, count = (lost - won) / total, total + 2
    more, less = lost + 0.5, won + 0.5
    centre = (more - less) / count
    half = 1.959964 * math.sqrt(more + less - (more - less) ** 2 / count) / count
    return Share(value, min(value, centre - half), max(value, centre + half))


def _bootstrap(figure: Callable[[Doubles], Doubles], count: int) -> Share:
    """Return a figure of weighted images with the percentiles of resampled ones (Efron 1979)."""
    random, even = np.random.default_rng(0), np.full(count, 1 / count)
    found = [
        figure(random.multinomial(count, even, _ROWS).astype(float))
        for _ in range(_ROUNDS // _ROWS)
    ]
    return percentiles(float(figure(np.ones((1, count)))[0]), np.concatenate(found))


def percentiles(value: float, draws: Doubles) -> Share:
    """Return a figure with the percentiles of resampled ones ``(R,)``; it never lies outside."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Share(value, min(value, float(low)), max(value, float(high)))
