"""Plots of an evaluation: SVG fragments without text of the user, in the page's colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.special import logit

from edge_fgr_export.two_sided import Curves
from edge_fgr_train.svg import ACCENT, MUTED, PLOT, WIDE, WRONG, draw, percent

__all__ = ["precision_plot", "roc_plot", "score_plot"]

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

_TICKS = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999)
_BINS = 48


def roc_plot(curves: Curves, points: list[tuple[float, float]]) -> str:
    """Return the receiver operating characteristic.

    Args:
        curves: of all thresholds.
        points: false and true positive rate of decisions to mark.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, dashes=(5, 3), label="chance")
        axes.plot(curves.false_positive, curves.true_positive, color=ACCENT, linewidth=1.8)
        _mark(axes, points)
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        _shares(axes)
        axes.legend(loc="lower right")

    return draw("Curve: sensitivity over 1 - specificity", PLOT, paint)


def precision_plot(curves: Curves, points: list[tuple[float, float]], chance: float) -> str:
    """Return precision over recall.

    Args:
        curves: of all thresholds.
        points: recall and precision of decisions to mark.
        chance: share of positive images.
    """

    def paint(axes: Axes) -> None:
        axes.axhline(chance, color=MUTED, linewidth=1.2, dashes=(5, 3), label="chance")
        axes.step(
            curves.recall, curves.precision, where="post", color=ACCENT, linewidth=1.8
        )  # a step: between two points no precision is reached
        _mark(axes, points)
        axes.set_xlabel("recall (sensitivity)")
        axes.set_ylabel("precision (PPV)")
        _shares(axes)
        axes.legend(loc="best")

    return draw("Curve: precision over recall", PLOT, paint)


def score_plot(scores: Floats, good: Bools, threshold: float) -> str:
    """Return bars of the probabilities of the accepted class, and where the threshold lies.

    The axis is that of log-odds: near 0 and 1, where most lie, it tells apart.

    Args:
        scores: ``(N,)``, 0 to 1.
        good: images of the accepted class ``(N,)``.
        threshold: above 0 and at most 1.
    """
    low, high = _TICKS[0], _TICKS[-1]
    places = logit(np.clip(scores, low, high).astype(np.float64))
    edges = np.linspace(logit(low), logit(high), _BINS + 1).tolist()

    def paint(axes: Axes) -> None:
        for chosen, colour, name in (
            (good, ACCENT, "images of the accepted class"), (~good, WRONG, "all others"),
        ):  # fmt: skip
            axes.hist(places[chosen], edges, color=colour, alpha=0.65, label=name)
        axes.axvline(
            logit(min(max(threshold, low), high)), color=MUTED, linewidth=1.4, dashes=(5, 3),
            label="threshold",
        )  # fmt: skip
        axes.set_xticks(logit(np.array(_TICKS)), [f"{tick:.6g}" for tick in _TICKS])
        axes.set_xlabel("probability of the accepted class")
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)

    return draw("Bars: probabilities of the accepted class, with the threshold", WIDE, paint)


def _mark(axes: Axes, points: list[tuple[float, float]]) -> None:
    names = ("the model's answer", "the threshold")
    for point, name, marker in zip(points, names, ("o", "s"), strict=False):
        axes.plot(*point, marker, color=WRONG, markersize=7, label=name)


def _shares(axes: Axes) -> None:
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(percent))
