"""A comparison as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_fgr.errors import EdgeFgrError
from edge_fgr.files import atomic_write
from edge_fgr.image import load
from edge_fgr_export.verify_findings import Changed, Comparison
from edge_fgr_train.evaluate import wilson
from edge_fgr_train.pages import data_uri, render

__all__ = ["write_page"]

_SHOWN = 60
"""Flipped images on the page; it says so where there are more."""

_THUMBNAIL = 256
"""Side in pixels."""


def write_page(path: Path, made: Comparison) -> None:
    """Write the page. Equal comparisons of equal images give equal bytes.

    Raises:
        OutputError: it cannot be written.
    """
    verdict, changed = made.verdict, made.changed()
    top1 = [
        (count / verdict.labelled, wilson(count, verdict.labelled))
        for count in (verdict.reference_right, verdict.candidate_right)
        if verdict.labelled
    ]
    values = {
        "made": made,
        "verdict": verdict,
        "agreement": wilson(verdict.same, verdict.images),
        "top1": top1,
        "sides": (("Reference", made.reference), ("Candidate", made.candidate)),
        "total": len(changed),
        "flipped": [_shown(made, change) for change in changed[:_SHOWN]],
    }
    atomic_write(path, render("edge_fgr_export", "verify.html", values))


def _shown(made: Comparison, change: Changed) -> dict[str, Any]:
    """Return a flipped image for the template, as each model sees it."""
    geometries = dict.fromkeys(
        side.geometry for side in (made.reference, made.candidate) if side.geometry
    )
    try:
        path = made.pool.paths[change.row]
        pictures = [data_uri(load(path, geometry), _THUMBNAIL) for geometry in geometries]
    except EdgeFgrError:  # gone since it was judged
        pictures = []
    return {"change": change, "name": made.pool.names[change.row], "pictures": pictures}
