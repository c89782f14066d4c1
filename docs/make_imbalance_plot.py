"""Draw docs/imbalance.svg: what --imbalance auto chooses, and what its strength does.

python docs/make_imbalance_plot.py          (extra: train)

The regions are asked of the program itself. TAUS is the output of

python -m edge_fgr_bench.long_tail grocery OUT --taus 0,0.25,0.5,0.75,1,1.25,1.5
    --common geometry.size=128 --common geometry.short_side=128 --common augment.size=128
    --common model.frozen=2 --common optimise.epochs=8
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_fgr_train.imbalance import EVEN, FEW, choose

ROOT = Path(__file__).parent.parent
INK, ACCENT, WRONG, THIRD, MUTED = "#24292f", "#1f6feb", "#cf222e", "#2da44e", "#8b949e"
PLAIN, ADJUSTED, WARNED = "#f6f8fa", "#dbe9ff", "#b6d1ff"

SETS = {  # images of the smallest and the largest class of `train`
    "flowers17": (34, 56),
    "grocery": (16, 70),
    "magnetic-tile": (19, 286),
    "long_tail.txt": (1, 50),
}
TAUS = {  # tau: recall of the rarest third, the middle, the most frequent, all; %
    0.0: (8.68, 40.08, 82.67, 44.33),
    0.25: (13.95, 41.98, 81.67, 46.33),
    0.5: (20.26, 45.00, 77.00, 47.83),
    0.75: (26.05, 47.14, 71.17, 48.47),
    1.0: (32.63, 49.21, 63.67, 48.78),
    1.25: (39.21, 48.25, 53.92, 47.28),
    1.5: (39.47, 37.14, 39.08, 38.53),
}


def regions(axes: Axes) -> None:
    """Paint what is chosen over the smallest class and the ratio."""
    small, ratio = np.geomspace(0.9, 100, 60), np.geomspace(1, 200, 60)
    kinds = np.array([[_kind(n, r) for n in small] for r in ratio])
    axes.contourf(
        small, ratio, kinds, [-0.5, 0.5, 1.5, 2.5], colors=[PLAIN, ADJUSTED, WARNED], zorder=0
    )
    axes.set(xscale="log", yscale="log", xlim=(0.9, 100), ylim=(1, 200))
    axes.set(xlabel="images of the smallest class", ylabel="largest to smallest class")
    axes.text(12, 1.25, f"below {EVEN:g} to 1: nothing", fontsize=8)
    axes.text(12, 110, f"logit adjustment\n({_where()})", fontsize=8)
    axes.text(1.05, 85, f"the same,\nand a warning\nbelow {FEW} images", fontsize=8)
    for name, (fewest, most) in SETS.items():
        axes.plot(fewest, most / fewest, "o", color=ACCENT, markersize=4)
        axes.annotate(name, (fewest, most / fewest), (5, 3), textcoords="offset points", fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter("")


def _kind(smallest: float, ratio: float) -> int:
    """Return 0 where nothing is done, 1 where something is, 2 where it is also warned."""
    fewest = max(1, int(smallest))
    changes, words = choose([fewest, fewest * ratio])
    return (1 + ("fewer than" in words)) if changes else 0


def _where() -> str:
    return choose([10, 1000])[0][0].replace("=", " = ")


def strengths(axes: Axes) -> None:
    """Paint recalls over tau."""
    kinds = ("rarest third", "middle", "most frequent", "all classes")
    for i, (kind, colour) in enumerate(zip(kinds, (WRONG, MUTED, THIRD, INK), strict=True)):
        values = [recalls[i] for recalls in TAUS.values()]
        axes.plot(list(TAUS), values, "o-", color=colour, markersize=3, label=kind)
    axes.axvline(1, color=ACCENT, linewidth=0.8, linestyle="--")
    axes.set(xlabel="tau", ylabel="recall, %", ylim=(0, 90), xlim=(-0.05, 1.55))
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def main() -> None:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {"svg.fonttype": "none", "svg.hashsalt": "imbalance", "font.size": 9,
             "font.family": "sans-serif", "axes.spines.top": False, "axes.spines.right": False}
        )  # fmt: skip
        figure = Figure(figsize=(9, 3.4), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2)
        regions(left)
        strengths(right)
        figure.savefig(ROOT / "docs" / "imbalance.svg", format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
