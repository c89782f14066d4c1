"""Plots of a report: SVG fragments without text of the user, in the page's colours and fonts.

matplotlib draws the curves. A heat map is one path for each shade: sharp at every size, a few
bytes a cell, and the page knows which cell lies under the pointer. Equal input gives equal text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from edge_fgr_train.chain import Point
from edge_fgr_train.evaluate import wilson
from edge_fgr_train.reliability import BINS, Reliability
from edge_fgr_train.svg import ACCENT, MUTED, PLOT, WIDE, WRONG, draw, percent

__all__ = [
    "epoch_plots",
    "heat_map",
    "path_plot",
    "reliability_plot",
    "score_plot",
    "share_plot",
    "size_plot",
]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_UNIT = 10
"""Side of a heat map's cell, in units of its viewBox."""

_SHADES = 20

_SQUARE = (5.4, 4.6)
"""Inches: a plot above another."""

_MOST_BARS = 200
"""Above so many, bars become one outline."""


def size_plot(counts: Ints) -> str:
    """Return bars of the images per class ``(C,)``, largest first."""
    ordered = np.sort(counts)[::-1]

    def paint(axes: Axes) -> None:
        if len(ordered) <= _MOST_BARS:
            axes.bar(np.arange(1, len(ordered) + 1), ordered, width=0.78, color=ACCENT)
        else:
            edges = np.arange(len(ordered) + 1) + 0.5
            axes.stairs(ordered, edges, fill=True, color=ACCENT)
        axes.set_xlim(0.3, len(ordered) + 0.7)
        axes.set_xlabel("classes, by number of images")
        axes.set_ylabel("images to fit")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8 if axis is axes.xaxis else 5, integer=True))

    size = WIDE if len(ordered) > 12 else PLOT
    return draw("Bars: images to fit of each class, largest class first", size, paint)


def score_plot(scores: Doubles, kept: npt.NDArray[np.bool_], chance: float | None) -> str:
    """Return the sorted scores ``(F,)``, what was kept filled, and the line of chance."""
    order = np.argsort(-scores, kind="stable")
    height, rank = scores[order], np.arange(1, len(scores) + 1)

    def paint(axes: Axes) -> None:
        axes.fill_between(
            rank, height, where=list(kept[order]), color=ACCENT, alpha=0.3, linewidth=0,
            label=f"{int(kept.sum())} kept",
        )  # fmt: skip
        axes.plot(rank, height, color=ACCENT, linewidth=1.6)
        if chance is not None:
            axes.axhline(chance, color=WRONG, linewidth=1.2, dashes=(5, 3), label="chance")
        axes.set_xlim(1, max(len(scores), 2))
        axes.set_ylim(0)
        axes.set_xlabel("features, by score")
        axes.set_ylabel("score")
        axes.legend(loc="upper right")

    return draw("Curve: scores of all features, highest first, with what was kept", PLOT, paint)


def share_plot(shares: Doubles, *, cumulative: bool) -> str:
    """Return the share of variance of each component ``(K,)``, or its running sum."""
    rank = np.arange(1, len(shares) + 1)

    def paint(axes: Axes) -> None:
        if cumulative:
            total = np.concatenate([[0], np.cumsum(shares)])
            axes.fill_between([0, *rank], total, color=ACCENT, alpha=0.15, linewidth=0)
            axes.plot([0, *rank], total, color=ACCENT, linewidth=1.8)
            axes.set_xlim(0, len(shares))
            axes.set_ylim(0, 1.02)
        elif len(shares) <= _MOST_BARS:
            axes.bar(rank, shares, width=0.78, color=ACCENT)
        else:
            axes.stairs(shares, np.arange(len(shares) + 1) + 0.5, fill=True, color=ACCENT)
        axes.set_xlabel("components")
        axes.set_ylabel("variance so far" if cumulative else "share of the variance")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(percent))

    what = "Curve: running sum of" if cumulative else "Bars:"
    return draw(f"{what} the share of variance of the components", PLOT, paint)


def path_plot(path: Sequence[Point], c: float | None) -> str:
    """Return top-1 with standard errors over the strength C, the chosen one marked."""
    values = np.array([point.c for point in path])
    low, high = np.log10(values.min()), np.log10(values.max())
    decades = [10.0**i for i in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    ticks = decades if len(decades) >= 2 else sorted(set(values.tolist()))[:6]

    def paint(axes: Axes) -> None:
        axes.errorbar(
            values, [p.top1 for p in path], yerr=[p.error for p in path], color=ACCENT,
            marker="o", markersize=5, linewidth=1.6, elinewidth=1.2, capsize=3,
        )  # fmt: skip
        if chosen := [point for point in path if point.c == c]:
            axes.plot(
                chosen[0].c, chosen[0].top1, "o", markersize=12, markerfacecolor="none",
                markeredgecolor=WRONG, markeredgewidth=1.8, label="chosen",
            )  # fmt: skip
            axes.legend(loc="best")
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.margins(x=0.06, y=0.14)
        axes.set_xlabel("C: larger is less regularised")
        axes.set_ylabel("top-1")
        axes.yaxis.set_major_formatter(FuncFormatter(percent))

    return draw("Curve: top-1 in cross-validation over the strength C", PLOT, paint)


def epoch_plots(epochs: Sequence[Mapping[str, float]]) -> list[str]:
    """Return curves over the epochs, of the loss and of the accuracies, as far as rows have them.

    What a single row lacks leaves a gap.
    """
    known = {key for row in epochs for key in row}
    groups = ({"loss": "loss"}, {"top1": "top-1", "coarse": "coarse top-1"})
    wanted = [{key: name for key, name in group.items() if key in known} for group in groups]
    return [_epoch_plot(epochs, group) for group in wanted if group]


def reliability_plot(found: Reliability, which: str) -> str:
    """Return the share of right answers over their probability, and below it bars of images.

    Shares have 95 % intervals: a bin of few images says little.

    Args:
        found: the bins.
        which: probabilities, in words that no other plot of the page has.
    """
    said = [each.probability for each in found.bins]
    right = np.array([each.right / each.images for each in found.bins])
    ends = np.array([wilson(each.right, each.images) for each in found.bins])
    edges = np.arange(BINS + 1) / BINS
    images = np.zeros(BINS)
    images[[each.place for each in found.bins]] = [each.images for each in found.bins]

    def paint(axes: Axes) -> None:
        figure = axes.figure
        grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
        axes.set_subplotspec(grid[0])
        below = figure.add_subplot(grid[1], sharex=axes)
        axes.plot(
            [0, 1], [0, 1], color=MUTED, linewidth=1.2, dashes=(5, 3), label="as it should be"
        )
        axes.errorbar(
            said, right, yerr=np.abs(ends.T - right), color=ACCENT, marker="o", markersize=5,
            linewidth=1.6, elinewidth=1.2, capsize=3, label="as it is",
        )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("right answers")
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
        axes.tick_params(labelbottom=False)
        axes.legend(loc="best")
        below.bar(edges[:-1], images, width=0.9 / BINS, align="edge", color=ACCENT)
        below.set_xlabel("probability of the answer")
        below.set_ylabel("images")
        below.xaxis.set_major_formatter(FuncFormatter(percent))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))

    return draw(f"Curve: right answers over their probability, {which}", _SQUARE, paint)


def heat_map(counts: Ints, *, thin: Sequence[int], thick: Sequence[int], label: str) -> str:
    """Return a confusion matrix ``(C, C)``: a row is a true class, its shades are shares of it.

    Args:
        counts: images of class row that were taken for class column.
        thin: rows above which a thin line goes, and columns left of which one goes.
        thick: the same for strong lines.
        label: what a screen reader says.
    """
    n, side = len(counts), len(counts) * _UNIT
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shades: dict[tuple[str, int], list[str]] = {}
    for row, column in np.argwhere(counts).tolist():
        kind = "right" if row == column else "wrong"
        cell = f"M{column * _UNIT} {row * _UNIT}h{_UNIT}v{_UNIT}h-{_UNIT}z"
        shades.setdefault((kind, math.ceil(shares[row, column] * _SHADES)), []).append(cell)
    # A single error among many images must still be seen: the weakest shade is far from none.
    parts = [
        f'<path class="{kind}" opacity="{0.25 + 0.75 * shade / _SHADES:.2f}" d="{"".join(cells)}"/>'
        for (kind, shade), cells in sorted(shades.items())
    ]
    for kind, cuts in (("thin", sorted(set(thin) - set(thick))), ("thick", thick)):
        lines = "".join(f"M0 {i * _UNIT}H{side}M{i * _UNIT} 0V{side}" for i in cuts)
        parts += [f'<path class="{kind}" d="{lines}"/>'] if lines else []
    if n <= 20:
        parts += [
            f"<text {'class=on ' if shares[row, column] > 0.5 else ''}"
            f'x="{(column + 0.5) * _UNIT:g}" y="{(row + 0.5) * _UNIT:g}">'
            f"{counts[row, column]}</text>"
            for row, column in np.argwhere(counts).tolist()
        ]
    return (
        f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _epoch_plot(epochs: Sequence[Mapping[str, float]], keys: Mapping[str, str]) -> str:
    at = [row.get("epoch", i + 1) for i, row in enumerate(epochs)]

    def paint(axes: Axes) -> None:
        for (key, name), colour in zip(keys.items(), (ACCENT, WRONG), strict=False):
            values = [row.get(key, math.nan) for row in epochs]
            axes.plot(at, values, color=colour, marker="o", markersize=3, linewidth=1.6, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(" and ".join(keys.values()))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if "loss" not in keys:
            axes.yaxis.set_major_formatter(FuncFormatter(percent))
        if len(keys) > 1:
            axes.legend(loc="lower right")

    return draw(f"Curve: {' and '.join(keys.values())} over the epochs", PLOT, paint)
