"""Figures with their 95 % intervals: of shares by a formula, of all others by resampling.

Pure numbers: no file and no image is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr_train.evaluate import wilson

__all__ = ["DRAWS", "Counted", "Estimate", "draws_of", "estimate"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

DRAWS = 1000
"""Resampled sets of images behind an interval."""

_ROWS = 50
"""Of them at once: what is held in memory."""

_ENDS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Counted:
    """``count`` of ``of`` images; ``of`` is at least 1."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson 1927)."""
        return wilson(self.count, self.of)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval, which always holds it."""

    value: float
    interval: tuple[float, float]


def draws_of(strata: Ints) -> Iterator[Doubles]:
    """Yield how often each image stands in a resampled set: ``(rows, N)``, ``DRAWS`` rows in all.

    Within each stratum as many images as it has are drawn with replacement (the stratified
    bootstrap: Efron and Tibshirani 1993, section 8). Equal strata give equal draws.

    Args:
        strata: which stratum each image belongs to ``(N,)``.
    """
    random = np.random.default_rng(0)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for _ in range(DRAWS // _ROWS):
        drawn = np.empty((_ROWS, len(strata)))
        for rows in members:
            even = np.full(len(rows), 1 / len(rows))
            drawn[:, rows] = random.multinomial(len(rows), even, size=_ROWS)
        yield drawn


def estimate(value: float, draws: Doubles) -> Estimate:
    """Return a figure with the percentiles of resampled ones ``(DRAWS,)`` (Efron 1979).

    An end is moved to the figure itself where all resampled ones lie on one side of it, as happens
    to a minimum and to an expected calibration error.
    """
    low, high = np.quantile(draws, _ENDS)
    return Estimate(value, (min(value, float(low)), max(value, float(high))))
