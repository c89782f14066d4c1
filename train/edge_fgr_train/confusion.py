"""Confusion matrices, as counts and as what a page shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label
from edge_fgr_train.pages import clean
from edge_fgr_train.plots import heat_map

__all__ = ["DEPTH", "confusion", "has_coarse", "matrix"]

Ints = npt.NDArray[np.intp]

DEPTH = 2
"""Path elements of a coarse class."""

_MOST_LABELS = 48
"""With more classes, the rows of a matrix are too low for labels."""


def confusion(truth: Ints, answer: Ints, classes: int) -> Ints:
    """Count ``(C, C)`` images: rows are true classes, columns are answers."""
    return np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)


def has_coarse(labels: Sequence[Label]) -> bool:
    """Whether labels have depth: their first two path elements tell some apart, and not all."""
    return 1 < len({label[:DEPTH] for label in labels}) < len(labels)


def matrix(counts: Ints, labels: Sequence[Label], what: str) -> dict[str, Any]:
    """Return a heat map and its labels: of each class, or of groups where there are many."""
    n = len(labels)
    bounds = [
        [i for i in range(1, n) if labels[i][:depth] != labels[i - 1][:depth]]
        for depth in (1, DEPTH)
    ]
    thick, thin = ([] if len(cuts) == n - 1 else cuts for cuts in bounds)  # a line at each: a grid
    strips = [(label, i, i + 1) for i, label in enumerate(labels)]
    if n > _MOST_LABELS:
        groups = zip([0, *thick], [*thick, n], strict=True)
        strips = [(labels[a][:1], a, b) for a, b in groups if thick and b - a >= n / 20]
    cells = [
        (row, column, int(counts[row, column])) for row, column in np.argwhere(counts).tolist()
    ]
    title = f"Confusion matrix of {n} {what}"
    return {
        "title": title,
        "n": n,
        "grouped": n > _MOST_LABELS,
        "svg": heat_map(counts, thin=thin, thick=thick, label=title),
        "strips": strips,
        "side": max(160, min(680, 40 * n)),
        "data": {"names": [" / ".join(map(clean, label)) for label in labels], "cells": cells},
    }
