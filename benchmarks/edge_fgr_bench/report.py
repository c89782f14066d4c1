"""What ``edge-fgr bench`` found, as one HTML file that opens anywhere, without a network.

Names of models, classes and files are the user's own: they enter the page only through its
template, which escapes them, and never a plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edge_fgr.files import atomic_write
from edge_fgr_bench import bench_plots as plots
from edge_fgr_bench.answer_tables import accuracy_tables, flip_groups
from edge_fgr_bench.document import Document
from edge_fgr_bench.gates import Outcome
from edge_fgr_bench.report_values import Side, comparable, plain, sides_of, tidy, warnings_of
from edge_fgr_bench.robust_tables import curves, robustness_tables
from edge_fgr_bench.speed_tables import (
    HOW,
    block_medians,
    conditions,
    host_line,
    latency_tables,
    summary_table,
)
from edge_fgr_train.pages import render

__all__ = ["write_report"]


def write_report(
    path: Path,
    documents: Sequence[Document],
    outcomes: Sequence[Outcome] = (),
    title: str = "",
) -> None:
    """Write the page. Equal documents give equal bytes.

    Args:
        path: of the HTML file.
        documents: at least one; candidates of several are shown side by side.
        outcomes: of the limits, as ``edge_fgr_bench.gates`` judged them.
        title: of the whole; empty: that of the first document.

    Raises:
        OutputError: it cannot be written.
    """
    sides = sides_of(documents)
    values = {
        "title": title or documents[0].title,
        "documents": [(document, host_line(document)) for document in documents],
        "sides": sides,
        "warnings": warnings_of(documents),
        "outcomes": [(one.kept, tidy(one.line)) for one in outcomes],
        "broken": sum(not one.kept for one in outcomes),
        "summary": summary_table(sides),
        "trades": _trades(sides),
        "pools": len({side.pool for side in sides}),
        "latency": latency_tables(sides),
        "speeds": _speeds(sides),
        "accuracy": accuracy_tables(sides),
        "flips": flip_groups(sides),
        "robustness": robustness_tables(sides),
        "curves": _curves(sides),
        "conditions": conditions(documents, sides),
        "how": HOW,
        "same_images": comparable(sides, lambda side: side.document.images.digest),
    }
    atomic_write(path, render("edge_fgr_bench", "bench.html", values))


def _trades(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Return a plot for each set of images and classes that was timed and judged."""
    pools: dict[object, list[tuple[Side, plots.Spot]]] = {}
    for side in sides:
        whole = side.speed.p50.get("whole") if side.speed else None
        if whole and side.judged and side.judged.top1:
            spot = plots.Spot(side.mark, side.number, whole, side.judged.top1)
            pools.setdefault(side.pool, []).append((side, spot))
    return [
        {
            "images": found[0][0].document.images,
            "classes": len(found[0][0].candidate.labels),
            "svg": plots.trade_plot([spot for _, spot in found], number),
            "best": [found[i][1].mark for i in plots.pareto([one.place for _, one in found])],
        }
        for number, found in enumerate(pools.values(), 1)
    ]


def _speeds(sides: Sequence[Side]) -> dict[str, Any]:
    """Return the plots of latency, as far as there are samples."""
    phases = [
        (side.mark, {phase: share.value for phase, share in side.speed.p50.items()})
        for side in sides
        if side.speed and set(side.speed.p50) - {"whole"}
    ]
    whole = [
        (side.mark, side.latency.us["whole"])
        for side in sides
        if side.latency and side.latency.us and side.latency.us.get("whole")
    ]
    drift = {side.mark: medians for side in sides if len(medians := block_medians(side)) > 1}
    relative = {
        mark: [one / (median(medians) or 1.0) for one in medians] for mark, medians in drift.items()
    }
    ends = [value for medians in relative.values() for value in medians]
    limits = (min([*ends, 0.95]) - 0.01, max([*ends, 1.05]) + 0.01)
    return {
        "phases": plots.phase_plot(phases) if phases else "",
        "spread": plots.spread_plot(whole) if whole else "",
        "drift": [
            (side, plots.drift_plot(side.mark, relative[side.mark], limits))
            for side in sides
            if side.mark in relative
        ],
    }


def _curves(sides: Sequence[Side]) -> list[tuple[str, str]]:
    """Return name and plot of each group of corruptions."""
    order = [side.mark for side in sides]
    return [
        (group, plots.curve_plot(f"{plain(group)}, group {number}", lines, order))
        for number, (group, lines) in enumerate(curves(sides).items(), 1)
    ]
