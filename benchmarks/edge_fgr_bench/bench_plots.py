"""Plots of a bench report: SVG fragments in the page's colours, without text of the user.

What they take from a document are keys and names that ``report_values.plain`` has reduced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from edge_fgr_bench.answers import Share
from edge_fgr_bench.robust_tables import Curve
from edge_fgr_bench.samples import PHASES
from edge_fgr_train.svg import ACCENT, FOURTH, INK, LINE, MUTED, THIRD, WRONG, draw, percent

__all__ = [
    "Spot",
    "curve_plot",
    "drift_plot",
    "pareto",
    "phase_plot",
    "spread_plot",
    "trade_plot",
]

Doubles = npt.NDArray[np.float64]

_TRADE, _SMALL, _WIDTH = (6.2, 3.8), (3.5, 2.4), 5.4
"""Inches, of 72 units each."""

_COLOURS = (ACCENT, WRONG, THIRD, FOURTH, INK)
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One for each document."""

_DECADE = 12.0
"""An axis whose ends are further apart than by this factor is logarithmic."""

_PHASES = dict(zip(PHASES[:-1], (MUTED, THIRD, ACCENT, WRONG), strict=True))


@dataclass(frozen=True, slots=True)
class Spot:
    """A candidate between speed and accuracy: milliseconds to the right, shares upwards.

    Attributes:
        number: of its document, from 1; gives the marker.
    """

    mark: str
    number: int
    x: Share
    y: Share

    @property
    def place(self) -> tuple[float, float]:
        """Without its intervals."""
        return self.x.value, self.y.value


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the points that no other beats, by x.

    A point is beaten by one that is as far left and as high, and further in one of the two.
    """
    kept = [
        i
        for i, (x, y) in enumerate(points)
        if not any(u <= x and v >= y and (u, v) != (x, y) for u, v in points)
    ]
    return sorted(kept, key=lambda i: points[i])


def trade_plot(spots: Sequence[Spot], number: int = 1) -> str:
    """Return accuracy over latency with 95 % intervals and the line of those that none beats.

    Args:
        spots: of one set of images; at least one.
        number: of the plot on its page.
    """
    shown = [spot.place for spot in spots]
    best = [shown[i] for i in pareto(shown)]

    def paint(axes: Axes) -> None:
        if len(best) > 1:
            axes.plot(*zip(*best, strict=True), color=MUTED, linewidth=1, dashes=(4, 3), zorder=1)
        for spot, (x, y) in zip(spots, shown, strict=True):
            axes.errorbar(
                x, y, xerr=_around(spot.x),
                yerr=_around(spot.y),
                color=ACCENT if (x, y) in best else WRONG, marker=_marker(spot.number),
                markersize=6, elinewidth=1, capsize=2.5, capthick=1, linestyle="none",
            )  # fmt: skip
        _scale(axes, axes.xaxis, [s.x.low for s in spots] + [s.x.high for s in spots])
        axes.margins(x=0.12, y=0.1)
        axes.set_xlabel("median of the whole path, ms")
        axes.set_ylabel("top-1")
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
        _label(axes, spots, best)

    return draw(f"Points: top-1 over the median latency, plot {number}", _TRADE, paint)


def phase_plot(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Return a bar for each candidate, of the medians of its phases in milliseconds."""

    def paint(axes: Axes) -> None:
        start = np.zeros(len(rows))
        for phase, colour in _PHASES.items():
            width = np.array([by.get(phase, 0.0) for _, by in rows])
            axes.barh(range(len(rows)), width, 0.62, start, color=colour, label=phase)
            start += width
        _names(axes, [mark for mark, _ in rows])
        axes.set_xlim(0)
        axes.set_xlabel("sum of the medians, ms")
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(_PHASES),
            handlelength=1.0, handleheight=1.0, columnspacing=1.4,
        )  # fmt: skip

    size = (_WIDTH, 1.15 + 0.32 * len(rows))
    return draw("Bars: median of each phase by candidate", size, paint)


def spread_plot(rows: Sequence[tuple[str, Sequence[int]]]) -> str:
    """Return boxes of the whole path: quartiles, median, and lines from 1 % to 99 %.

    Args:
        rows: keys and microseconds, at least one each.
    """
    keys = ("whislo", "q1", "med", "q3", "whishi")
    cuts: list[Doubles] = [
        np.percentile(np.asarray(us, np.float64), (1, 25, 50, 75, 99)) / 1000 for _, us in rows
    ]

    def paint(axes: Axes) -> None:
        axes.bxp(
            [dict(zip(keys, cut.tolist(), strict=True)) for cut in cuts],
            positions=range(len(rows)), orientation="horizontal", showfliers=False,
            patch_artist=True, widths=0.55, capwidths=0.3, manage_ticks=False,
            boxprops={"facecolor": ACCENT, "edgecolor": ACCENT, "alpha": 0.35},
            medianprops={"color": ACCENT, "linewidth": 2}, whiskerprops={"color": ACCENT},
            capprops={"color": ACCENT},
        )  # fmt: skip
        _names(axes, [mark for mark, _ in rows])
        _scale(axes, axes.xaxis, [value for cut in cuts for value in cut.tolist()])
        axes.set_xlabel("whole path, ms: 1, 25, 50, 75 and 99 % of the queries")

    size = (_WIDTH, 0.85 + 0.32 * len(rows))
    return draw("Boxes: spread of the whole path by candidate", size, paint)


def drift_plot(mark: str, medians: Sequence[float], limits: tuple[float, float]) -> str:
    """Return the medians of a candidate's turns, 1 being the median of them all.

    Args:
        mark: the candidate's key.
        medians: in the order of the turns.
        limits: of the axis; plots side by side share it.
    """
    at = range(1, len(medians) + 1)

    def paint(axes: Axes) -> None:
        axes.axhline(1, color=MUTED, linewidth=1, dashes=(4, 3))
        axes.plot(at, medians, color=ACCENT, marker="o", markersize=3, linewidth=1.4)
        axes.set_ylim(*limits)
        axes.margins(x=0.04)
        axes.set_xlabel("turn")
        axes.set_ylabel("of the median")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(percent))

    return draw(f"Curve: latency over the turns of {mark}", _SMALL, paint)


def curve_plot(group: str, lines: Sequence[Curve], order: Sequence[str]) -> str:
    """Return top-1 over the severity, a line for each candidate.

    Args:
        group: of corruptions.
        lines: of that group.
        order: keys of all candidates: each has one colour in all plots.
    """

    def paint(axes: Axes) -> None:
        for line in lines:
            place = order.index(line.mark)
            axes.plot(
                *zip(*line.points, strict=True), label=line.mark,
                color=_COLOURS[place % len(_COLOURS)],
                linestyle=_DASHES[place // len(_COLOURS) % len(_DASHES)],
                marker=_marker(line.number), markersize=3.5, linewidth=1.5,
            )  # fmt: skip
        axes.set_ylim(0, 1.02)
        axes.margins(x=0.05)
        axes.set_xlabel("severity, 0 as they are")
        axes.set_ylabel("top-1")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
        axes.legend(loc="lower left", ncols=math.ceil(len(lines) / 4), handlelength=1.6)

    return draw(f"Curves: top-1 over the severity, {group}", _SMALL, paint)


def _around(share: Share) -> list[list[float]]:
    return [[max(share.value - share.low, 0.0)], [max(share.high - share.value, 0.0)]]


def _marker(number: int) -> str:
    return _MARKERS[(number - 1) % len(_MARKERS)]


def _names(axes: Axes, marks: Sequence[str]) -> None:
    """Write keys at rows, the first on top."""
    axes.set_yticks(range(len(marks)), marks)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)


def _scale(axes: Axes, axis: Axis, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic where its ends are far apart."""
    axes.grid(axis="x", visible=True)
    if min(values) > 0 and max(values) / min(values) > _DECADE:
        axes.set_xscale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(axes: Axes, spots: Sequence[Spot], line: Sequence[tuple[float, float]]) -> None:
    """Write each key where it is furthest from points, their intervals, the line and other keys."""
    axes.autoscale_view()
    size = 72 * np.array(_TRADE)

    def place(x: float, y: float) -> Doubles:
        # The axes get their final size later; these are near enough to compare distances.
        share = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        units: Doubles = np.asarray(share, np.float64) * size * 0.85
        return units

    taken: list[Doubles] = []
    for spot in spots:
        middle = place(*spot.place)
        ends = [
            (place(spot.x.low, spot.y.value), place(spot.x.high, spot.y.value)),
            (place(spot.x.value, spot.y.low), place(spot.x.value, spot.y.high)),
        ]
        taken += [middle, *(p for one, two in ends for p in np.linspace(one, two, 80))]
    for one, two in pairwise(line):
        taken += list(np.linspace(place(*one), place(*two), 80))
    for spot in spots:
        middle = place(*spot.place)
        wide = 4 + 3 * len(spot.mark)
        choices = [
            np.array([across * wide, up * 8.0 + shift])
            for across, up, shift in (
                (1, 1, 0), (1, -1, 0), (-1, 1, 0), (-1, -1, 0), (1, 2.2, 0), (-1, 2.2, 0),
                (1, -2.2, 0), (-1, -2.2, 0), (2.2, 0, 5), (-2.2, 0, 5),
            )
        ]  # fmt: skip
        room = [min(np.hypot(*(middle + choice - other)) for other in taken) for choice in choices]
        # The first that is far enough: nearest to its own point.
        chosen = next((i for i, far in enumerate(room) if far > 6.5), int(np.argmax(room)))
        offset = choices[chosen]
        taken += [middle + offset + (dx, 0) for dx in np.linspace(-wide / 2, wide / 2, 4)]
        axes.annotate(
            spot.mark, (spot.x.value, spot.y.value), offset.tolist(), textcoords="offset points",
            ha="center", va="center", fontsize=10, fontweight="bold", color=INK,
        )  # fmt: skip
    axes.spines["bottom"].set_color(LINE)
