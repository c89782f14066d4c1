"""Images in groups of near-duplicates: folds that never part one, and intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from edge_fgr.errors import UsageError

__all__ = ["folds_of", "macro_interval", "macro_recall"]

Ints = npt.NDArray[np.intp]


def folds_of(
    truth: Sequence[int] | Ints, groups: Sequence[int] | Ints, count: int
) -> list[tuple[Ints, Ints]]:
    """Part images into folds with about equal shares of the classes; equal at every call.

    Args:
        truth: class of each image ``(N,)``.
        groups: group of each image ``(N,)``.
        count: of folds.

    Returns:
        For each fold the places of the images outside of it and of those in it.

    Raises:
        UsageError: fewer than two folds, or more than the largest class has images.
    """
    try:
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        return list(splitter.split(np.zeros(len(truth)), truth, groups))
    except ValueError as error:
        raise UsageError(f"{count} folds: cannot be made of these images ({error})") from None


def macro_recall(truth: Ints, answers: Ints) -> float:
    """Mean over the classes of the share of their images that got the right answer."""
    return float(np.mean([(answers[truth == c] == c).mean() for c in np.unique(truth)]))


def macro_interval(
    truth: Ints, answers: Ints, groups: Ints, draws: int = 2000
) -> tuple[float, float]:
    """Percentile interval of the macro recall over draws of groups with replacement."""
    _, number = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(0)
    classes = int(truth.max()) + 1
    right = np.zeros((number.max() + 1, classes))
    of_class = np.zeros_like(right)
    np.add.at(right, (number, truth), answers == truth)
    np.add.at(of_class, (number, truth), 1)
    weights = generator.multinomial(len(right), np.full(len(right), 1 / len(right)), size=draws)
    seen = weights @ of_class
    recall = np.where(seen > 0, weights @ right / np.maximum(seen, 1), np.nan)
    low, high = np.quantile(np.nanmean(recall, axis=1), [0.025, 0.975])
    return float(low), float(high)
