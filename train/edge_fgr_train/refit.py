"""A head that is computed, not learnt: directions of class means where classes are round.

Embeddings of length 1 are turned and scaled until what differs within classes is the same in all
directions (within-class covariance normalisation: Hatch et al. 2006, "Within-class Covariance
Normalization for SVM-based Speaker Recognition", section 3); then the class mean that an embedding
makes the smallest angle with is the answer (cosine scoring, as in Dehak et al. 2011, "Front-End
Factor Analysis for Speaker Verification", section III). What a trained head learns from mixed
pictures of known places is less certain in others: where photos of other shops are judged, this
was 2.5 points better (docs/figures.md); where a class is many things, as good parts are, it is
worse by far, for one direction a class cannot be all of them. The angle's order is linear in the
embedding, so it is an ordinary head on embeddings of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr_train.linear import LinearHead

__all__ = ["whitened_directions", "whitened_head", "whitening"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_SHRINK = 0.05
"""Share of the mean variance that is added in all directions: there are more than images."""

_SCALE = 16.0
"""Of the directions, that the largest logits are about as large as those of a trained head."""


def whitened_head(embedding: Floats, targets: Sequence[int], classes: int) -> LinearHead:
    """Fit the head.

    Args:
        embedding: ``(N, D)``, plain.
        targets: the class of each.
        classes: how many there are, each with an embedding at least.

    Returns:
        float32 ``(C, D)`` and ``(C,)``, on embeddings of length 1.
    """
    rows: Any = LinearHead.seen(embedding.astype(np.float64), l2=True)
    weight, bias = whitened_directions(rows, np.asarray(targets), classes)
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), l2=True)


def whitened_directions(
    rows: Doubles, truth: npt.NDArray[np.integer[Any]], classes: int
) -> tuple[Doubles, Doubles]:
    """Return weight ``(C, D)`` and bias ``(C,)`` of that head on ``rows`` ``(N, D)`` as they are.

    Args:
        rows: embeddings.
        truth: class of each ``(N,)``, from 0 on without a gap.
        classes: how many there are.
    """
    means = np.stack([rows[truth == c].mean(0) for c in range(classes)])
    whiten = whitening(rows, means[truth], _SHRINK)
    centre = rows.mean(0)
    directions = (means - centre) @ whiten
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    weight = directions @ whiten.T
    bias = -weight @ centre
    # Logits are the cosines but for a factor of each image; on average it is made _SCALE.
    factor = _SCALE / max(float(np.linalg.norm((rows - centre) @ whiten, axis=1).mean()), 1e-12)
    return weight * factor, bias * factor


def whitening(rows: Doubles, means: Doubles, shrink: float) -> Doubles:
    """Return the matrix ``(D, D)`` behind which rows vary alike in all directions within classes.

    Args:
        rows: ``(N, D)``.
        means: of the class of each, ``(N, D)``.
        shrink: share of the mean variance that is added in all directions. Where nothing varies, as
            with one image a class, directions stay as they are.
    """
    apart = rows - means
    within: Any = apart.T @ apart / len(rows)
    variances, axes = np.linalg.eigh(within)
    floor = shrink * float(variances.mean())
    floor = floor if floor > np.finfo(np.float64).tiny else 1.0
    whiten: Doubles = axes / np.sqrt(variances.clip(0) + floor)
    return whiten
