"""Plots of a report: SVG fragments without text of the user, in the page's colours and fonts.

matplotlib draws the curves. A heat map is one path for each shade: sharp at every size, a few
bytes a cell, and the page knows which cell lies under the pointer. Equal input gives equal text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from edge_fgr_train.chain import Point

__all__ = ["epoch_plots", "heat_map", "path_plot", "score_plot", "share_plot", "size_plot"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Any colours that differ: each becomes a variable of the page, which has a light and a dark value.
_INK, _MUTED, _LINE, _ACCENT, _WRONG = "#010203", "#010204", "#010205", "#010206", "#010207"
_ROLES = {_INK: "ink", _MUTED: "muted", _LINE: "line", _ACCENT: "accent", _WRONG: "wrong"}

_PLOT, _WIDE = (5.4, 3.1), (9.0, 2.5)
"""Width and height in inches, of 72 units each."""

_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": _MUTED,
    "axes.labelsize": 9,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "svg.fonttype": "none",  # text stays text: smaller than outlines, and it can be searched
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "xtick.labelsize": 9,
    "ytick.color": _LINE,
    "ytick.labelcolor": _MUTED,
    "ytick.labelsize": 9,
    "ytick.left": False,
}

_UNIT = 10
"""Side of a heat map's cell, in units of its viewBox."""

_SHADES = 20

_MOST_BARS = 200
"""Above so many, bars become one outline."""


def size_plot(counts: Ints) -> str:
    """Return bars of the images per class ``(C,)``, largest first."""
    ordered = np.sort(counts)[::-1]

    def paint(axes: Axes) -> None:
        if len(ordered) <= _MOST_BARS:
            axes.bar(np.arange(1, len(ordered) + 1), ordered, width=0.78, color=_ACCENT)
        else:
            edges = np.arange(len(ordered) + 1) + 0.5
            axes.stairs(ordered, edges, fill=True, color=_ACCENT)
        axes.set_xlim(0.3, len(ordered) + 0.7)
        axes.set_xlabel("classes, by number of images")
        axes.set_ylabel("images to fit")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8 if axis is axes.xaxis else 5, integer=True))

    size = _WIDE if len(ordered) > 12 else _PLOT
    return _draw("Bars: images to fit of each class, largest class first", size, paint)


def score_plot(scores: Doubles, kept: npt.NDArray[np.bool_], chance: float | None) -> str:
    """Return the sorted scores ``(F,)``, what was kept filled, and the line of chance."""
    order = np.argsort(-scores, kind="stable")
    height, rank = scores[order], np.arange(1, len(scores) + 1)

    def paint(axes: Axes) -> None:
        axes.fill_between(
            rank, height, where=list(kept[order]), color=_ACCENT, alpha=0.3, linewidth=0,
            label=f"{int(kept.sum())} kept",
        )  # fmt: skip
        axes.plot(rank, height, color=_ACCENT, linewidth=1.6)
        if chance is not None:
            axes.axhline(chance, color=_WRONG, linewidth=1.2, dashes=(5, 3), label="chance")
        axes.set_xlim(1, max(len(scores), 2))
        axes.set_ylim(0)
        axes.set_xlabel("features, by score")
        axes.set_ylabel("score")
        axes.legend(loc="upper right")

    return _draw("Curve: scores of all features, highest first, with what was kept", _PLOT, paint)


def share_plot(shares: Doubles, *, cumulative: bool) -> str:
    """Return the share of variance of each component ``(K,)``, or its running sum."""
    rank = np.arange(1, len(shares) + 1)

    def paint(axes: Axes) -> None:
        if cumulative:
            total = np.concatenate([[0], np.cumsum(shares)])
            axes.fill_between([0, *rank], total, color=_ACCENT, alpha=0.15, linewidth=0)
            axes.plot([0, *rank], total, color=_ACCENT, linewidth=1.8)
            axes.set_xlim(0, len(shares))
            axes.set_ylim(0, 1.02)
        elif len(shares) <= _MOST_BARS:
            axes.bar(rank, shares, width=0.78, color=_ACCENT)
        else:
            axes.stairs(shares, np.arange(len(shares) + 1) + 0.5, fill=True, color=_ACCENT)
        axes.set_xlabel("components")
        axes.set_ylabel("variance so far" if cumulative else "share of the variance")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))

    what = "Curve: running sum of" if cumulative else "Bars:"
    return _draw(f"{what} the share of variance of the components", _PLOT, paint)


def path_plot(path: Sequence[Point], c: float | None) -> str:
    """Return top-1 with standard errors over the strength C, the chosen one marked."""
    values = np.array([point.c for point in path])
    low, high = np.log10(values.min()), np.log10(values.max())
    decades = [10.0**i for i in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    ticks = decades if len(decades) >= 2 else sorted(set(values.tolist()))[:6]

    def paint(axes: Axes) -> None:
        axes.errorbar(
            values, [p.top1 for p in path], yerr=[p.error for p in path], color=_ACCENT,
            marker="o", markersize=5, linewidth=1.6, elinewidth=1.2, capsize=3,
        )  # fmt: skip
        if chosen := [point for point in path if point.c == c]:
            axes.plot(
                chosen[0].c, chosen[0].top1, "o", markersize=12, markerfacecolor="none",
                markeredgecolor=_WRONG, markeredgewidth=1.8, label="chosen",
            )  # fmt: skip
            axes.legend(loc="best")
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.margins(x=0.06, y=0.14)
        axes.set_xlabel("C: larger is less regularised")
        axes.set_ylabel("top-1")
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))

    return _draw("Curve: top-1 in cross-validation over the strength C", _PLOT, paint)


def epoch_plots(epochs: Sequence[Mapping[str, float]]) -> list[str]:
    """Return curves over the epochs, of the loss and of the accuracies, as far as rows have them.

    What a single row lacks leaves a gap.
    """
    known = {key for row in epochs for key in row}
    groups = ({"loss": "loss"}, {"top1": "top-1", "coarse": "coarse top-1"})
    wanted = [{key: name for key, name in group.items() if key in known} for group in groups]
    return [_epoch_plot(epochs, group) for group in wanted if group]


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
        for (key, name), colour in zip(keys.items(), (_ACCENT, _WRONG), strict=False):
            values = [row.get(key, math.nan) for row in epochs]
            axes.plot(at, values, color=colour, marker="o", markersize=3, linewidth=1.6, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(" and ".join(keys.values()))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if "loss" not in keys:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        if len(keys) > 1:
            axes.legend(loc="lower right")

    return _draw(f"Curve: {' and '.join(keys.values())} over the epochs", _PLOT, paint)


def _draw(label: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
    """Paint one plot, whatever the user's own settings of matplotlib are."""
    text = StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        # The salt makes names inside of the file, which the page's other plots must not share.
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": label})
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """Cut an SVG file to what HTML needs, and hand its colours and fonts to the page."""
    head, _, body = svg[svg.index("<svg") :].partition(">")
    box = re.findall(r'viewBox="([^"]+)"', head)[0]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    for colour, role in _ROLES.items():
        body = body.replace(colour, f"var(--{role})")
    return f'<svg viewBox="{box}" role="img" aria-label="{label}">{body.strip()}'


def _percent(share: float, _: object = None) -> str:
    """Return ``92.6 %``, with a space that no line breaks at."""
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"
