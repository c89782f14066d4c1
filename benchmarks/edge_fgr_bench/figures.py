"""The figures of one candidate by name, in the units that people use: tables and gates share them.

Percent for shares, milliseconds, MiB. A name that is missing was not measured.
"""

from __future__ import annotations

from edge_fgr_bench.answers import Judged, Pair
from edge_fgr_bench.document import Document
from edge_fgr_bench.summary import speed_of

__all__ = ["Figures", "figures_of", "judged_of", "pair_of", "robust_top1"]

Figures = dict[str, float]


def figures_of(document: Document, key: str) -> Figures:
    """Return what was measured of a candidate."""
    (candidate,) = (c for c in document.candidates if c.key == key)
    found: Figures = {"size_mib": candidate.bytes / 2**20}
    for latency in document.latency:
        if latency.key == key:
            speed = speed_of(latency)
            for name, by in (("p50_ms", speed.p50), ("p90_ms", speed.p90), ("p99_ms", speed.p99)):
                if "whole" in by:
                    found[name] = by["whole"].value
            for name, share in (("cold_ms", speed.cold), ("images_per_s", speed.rate)):
                if share is not None:
                    found[name] = share.value
            if speed.peak_mib is not None:
                found["memory_mib"] = speed.peak_mib
            if speed.joules is not None:
                found["joules"] = speed.joules
    if judged := judged_of(document, key):
        for name in ("top1", "macro", "coarse", "ece", "unknown"):
            share = getattr(judged, name)
            if share is not None:
                found[name] = 100 * share.value
    if pair := pair_of(document, key):
        found["agreement"] = 100 * pair.agreement.value
        if pair.drop is not None:
            found["drop"] = 100 * pair.drop.value
    robust = robust_top1(document, key)
    return found if robust is None else found | {"robust_top1": 100 * robust}


def judged_of(document: Document, key: str) -> Judged | None:
    """Return a candidate's answers; None where it gave none."""
    judged = document.accuracy.judged if document.accuracy else ()
    return next((one for one in judged if one.key == key), None)


def pair_of(document: Document, key: str) -> Pair | None:
    """Return how a candidate compares with the first one of its classes; None for that itself."""
    pairs = document.accuracy.pairs if document.accuracy else ()
    return next((pair for pair in pairs if pair.b == key), None)


def robust_top1(document: Document, key: str) -> float | None:
    """Return the mean share of right answers over all corruptions and severities, 0 to 1."""
    cells = document.robustness.cells if document.robustness else ()
    shares = [
        cell.right / cell.images
        for cell in cells
        if cell.key == key and cell.severity and cell.right is not None
    ]
    return sum(shares) / len(shares) if shares else None
