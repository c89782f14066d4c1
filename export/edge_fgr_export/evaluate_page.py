"""An evaluation as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_fgr.contract import Geometry
from edge_fgr.files import atomic_write
from edge_fgr_export.evaluate_findings import Evaluation, told
from edge_fgr_export.evaluate_plots import precision_plot, roc_plot, score_plot
from edge_fgr_export.two_sided import NOTICE, TwoSided
from edge_fgr_train.confusion import matrix
from edge_fgr_train.dataset import Sample
from edge_fgr_train.pages import render
from edge_fgr_train.plots import reliability_plot
from edge_fgr_train.report_pairs import frequent_pairs

__all__ = ["write_page"]

_PLAIN = Geometry(256)
"""How pictures are shown where the model's own geometry is not known."""


def write_page(path: Path, made: Evaluation) -> None:
    """Write the page. Equal evaluations of equal images give equal bytes.

    Raises:
        OutputError: it cannot be written.
    """
    found = made.figures
    rows = sorted(
        found.classes,
        key=lambda row: (row.recall is None, row.recall.share if row.recall else 0.0),
    )
    judged = made.operating
    values = {
        "made": made,
        "found": found,
        "labels": made.labels,
        "present": sum(row.recall is not None for row in rows),
        "reliability": reliability_plot(found.bins, f"temperature {made.side.temperature:.3g}"),
        "classes": rows,
        "matrix_of": matrix(found.counts, made.labels, "classes"),
        "pairs": _pairs(made),
        "sides": made.sides,
        "curves": _curves(made.sides) if made.sides else (),
        "notice": NOTICE,
        "judged": judged,
        "told": told(judged) if judged else "",
        "scores": score_plot(*made.accepted_class(), judged.point.threshold) if judged else "",
    }
    atomic_write(path, render("edge_fgr_export", "evaluate.html", values))


def _pairs(made: Evaluation) -> list[dict[str, Any]]:
    """Return the most confused pairs: an image that was mistaken, and one of the other class."""
    pool, logits = made.pool, made.answers.logits
    samples = [
        Sample(name, path, made.labels[target])
        for name, path, target in zip(pool.names, pool.paths, pool.targets, strict=True)
    ]
    truth = np.array(pool.targets, np.intp)
    right = [samples[i] for i in np.flatnonzero(logits.argmax(axis=1) == truth)]
    pairs = frequent_pairs(
        samples, right, made.labels, truth, logits, made.side.temperature,
        made.side.geometry or _PLAIN,
    )  # fmt: skip
    counted = {(pair.truth, pair.answer): pair.counted for pair in made.figures.confused}
    for pair in pairs:
        answer, true = pair["classes"]
        pair["interval"] = counted[true, answer].interval
    return pairs


def _curves(sides: TwoSided) -> tuple[str, str]:
    rates = [(1 - each.specificity.share, each.sensitivity.share) for each in sides.decisions]
    points = [
        (each.sensitivity.share, each.ppv.share) for each in sides.decisions if each.ppv is not None
    ]
    return (
        roc_plot(sides.curves, rates),
        precision_plot(sides.curves, points, sides.images.share),
    )
