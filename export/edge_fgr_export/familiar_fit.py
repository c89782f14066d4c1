"""Fit how familiar an embedding is: what ``edge_fgr.familiar`` applies on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_fgr.familiar import familiar_to_json

__all__ = ["MIN_CLASSES", "fit_familiar"]

Floats = npt.NDArray[np.floating]

MIN_CLASSES = 8
"""With fewer, no score of unknown images rests on angles: few directions are far from all."""

_FEWEST = 3
"""With fewer there is one direction at most, and nothing to tell classes apart by."""

_SHRINKAGE = 0.3
"""Share of a plain sphere in the covariance. 0.1 to 0.5 tell unknown images apart within 0.003 of
AUROC on grocery's val."""

_RANK = 96
"""Most directions that are kept for what tells the classes apart."""

_MORE = 64
"""Further directions, those in which images vary most: nothing that the classes need, but what a
class that is learned later may. With 5 photos of each of 10 such classes (grocery's val, three
draws) the trained classes lose 0.7 points less; the file grows by 0.1 MB."""


def fit_familiar(embeddings: Floats, targets: Sequence[int], classes: int) -> str | None:
    """Return the document, or None where too few classes have images.

    Args:
        embeddings: ``(N, D)`` of training images, as the exported graph gives them.
        targets: their classes.
        classes: how many classes there are; one without an image has no direction.
    """
    rows = embeddings.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    numbers = np.asarray(targets)
    seen = [c for c in range(classes) if (numbers == c).any()]
    if len(seen) < _FEWEST or len(rows) <= len(seen):
        return None
    means = np.stack([rows[numbers == c].mean(axis=0) for c in seen])  # (S, D)
    centre = means.mean(axis=0)
    place = np.zeros(classes, np.int64)
    place[seen] = range(len(seen))
    spread = rows - means[place[numbers]]
    within = spread.T @ spread / len(spread)  # (D, D)
    plain = np.trace(within) / len(within)
    if plain <= 0:
        return None
    values, axes = np.linalg.eigh(
        (1 - _SHRINKAGE) * within + _SHRINKAGE * plain * np.eye(len(within))
    )
    half = axes / np.sqrt(values / values.min()) @ axes.T  # (D, D), symmetric: spread becomes alike
    apart = (means - centre) @ half
    rank = min(_RANK, len(seen) - 1, rows.shape[1])
    telling = np.linalg.svd(apart, full_matrices=False)[2][:rank]
    away = (rows - centre) @ half
    kept = np.vstack([telling, _varying(away - away @ telling.T @ telling)])
    chosen = kept @ half  # (R, D)
    # The basis holds the centre too: then what is outside needs no centre taken off.
    basis = np.linalg.qr(np.vstack([chosen, centre]).T)[0].T  # (R + 1, D)
    whiten = basis @ chosen.T  # (R + 1, R)
    middle = centre @ chosen.T
    directions = means @ chosen.T - middle
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    inside = rows @ basis.T
    outside = 1 - (inside**2).sum(axis=1)
    held = inside @ whiten - middle
    rest = ((away**2).sum(axis=1) - (held**2).sum(axis=1)).mean() / max(outside.mean(), 1e-12)
    # A class without an image takes a direction that nothing has.
    every = np.zeros((classes, len(kept)))
    every[seen] = directions
    return familiar_to_json(basis, whiten, middle, every, max(0.0, float(rest)))


def _varying(rows: Floats) -> Floats:
    """Return the directions in which the rows vary most, of length 1: ``(at most _MORE, D)``."""
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    count = int((sizes > 1e-6 * max(sizes.max(initial=0), 1e-12)).sum())
    return axes[: min(count, _MORE)]
