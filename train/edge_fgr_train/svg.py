"""Plots as SVG fragments in the colours and fonts of the page that they stand in.

matplotlib paints. Equal input gives equal text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "FOURTH",
    "INK",
    "LINE",
    "MUTED",
    "PLOT",
    "STYLE",
    "THIRD",
    "WIDE",
    "WRONG",
    "draw",
    "inline",
    "percent",
]

# Any colours that differ: each becomes a variable of the page, which has a light and a dark value.
INK, MUTED, LINE, ACCENT, WRONG = "#010203", "#010204", "#010205", "#010206", "#010207"
THIRD, FOURTH = "#010208", "#010209"
_ROLES = {
    INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", WRONG: "wrong", THIRD: "third",
    FOURTH: "fourth",
}  # fmt: skip

PLOT, WIDE = (5.4, 3.1), (9.0, 2.5)
"""Width and height in inches, of 72 units each."""

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",  # text stays text: smaller than outlines, and it can be searched
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 9,
    "ytick.left": False,
}
"""Settings of matplotlib that differ from its own."""


def draw(label: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
    """Paint one plot, whatever the user's own settings of matplotlib are.

    Args:
        label: what a screen reader says: plain words, and no two plots of a page have the same.
        size: width and height in inches.
        paint: gets the axes.
    """
    text = StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        # The salt makes names inside of the file, which the page's other plots must not share.
        mpl.rcParams.update({**STYLE, "svg.hashsalt": label})
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return inline(text.getvalue(), label)


def inline(svg: str, label: str) -> str:
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


def percent(share: float, _: object = None) -> str:
    """Return ``92.6 %``, with a space that no line breaks at."""
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"
