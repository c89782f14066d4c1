"""The honest baseline of few shots: the nearest class mean on features that nobody trained.

Features scaled to length 1, and the class whose mean is nearest (Wang et al. 2019, "SimpleShot:
Revisiting Nearest-Neighbor Classification for Few-Shot Learning", section 3, L2N): seconds of work,
and what any training on a few images has to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from edge_fgr_train.backbones import TEACHING
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.embedder import Embedder, open_embedder
from edge_fgr_train.features import embed
from edge_fgr_train.linear import LinearHead
from edge_fgr_train.parts import Split
from edge_fgr_train.recipe import Recipe

__all__ = ["Frozen", "frozen_source", "hits", "nearest_mean"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What the baseline reaches.

    Attributes:
        top1: 0 to 1.
        images: so many were judged.
        judged_by: which ones, in words.
    """

    top1: float
    images: int
    judged_by: str

    def __str__(self) -> str:
        share = f"{100 * self.top1:.1f} %"
        return (
            f"nearest class mean on frozen features: {share} of {self.images} images "
            f"({self.judged_by})"
        )


def frozen_source(recipe: Recipe, device: str = "cpu") -> Embedder | None:
    """Return the backbone of a recipe as ImageNet left it; None where it starts from chance.

    It pools and mirrors as the recipe does, but for bilinear pooling, which is nothing before it is
    trained.

    Raises:
        EdgeFgrError: what ``open_embedder`` raises.
    """
    if not recipe.model.pretrained or recipe.model.backbone == TEACHING:
        return None
    model = recipe.model
    pool = model.pool if model.pool != "bilinear" else "mean"
    return open_embedder(
        model.backbone,
        geometry=recipe.geometry,
        device=device,
        pool=pool,
        mirrors=model.mirrors,
    )


def nearest_mean(split: Split, source: Embedder) -> Frozen | None:
    """Judge the baseline on what is evaluated; else each image to fit, without it in its mean.

    Returns:
        None where nothing is evaluated and classes of one image leave no mean.

    Raises:
        ImageError: images cannot be read.
    """
    labels = labels_of(split.fit)
    rows = embed(source, [*split.fit, *split.evaluate])
    known, targets = rows[: len(split.fit)], targets_of(split.fit, labels)
    if split.evaluate:
        right = hits(known, targets, rows[len(split.fit) :], targets_of(split.evaluate, labels))
        return Frozen(float(right.mean()), len(right), split.folders[-1])
    if np.bincount(targets).min() < 2:
        return None
    right = hits(known, targets)
    return Frozen(float(right.mean()), len(right), "those to fit, each left out in turn")


def hits(
    known: Floats,
    targets: Sequence[int],
    rows: Floats | None = None,
    truths: Sequence[int] = (),
) -> Bools:
    """Return whether the nearest class mean is right.

    Args:
        known: embeddings ``(N, D)`` that means are taken over.
        targets: class of each, from 0 on without a gap.
        rows: embeddings to judge ``(M, D)``; None: ``known``, each left out of its own mean, for
            which every class needs two.
        truths: class of each of ``rows``.
    """
    seen = LinearHead.seen(np.asarray(known, np.float64), l2=True)
    member = np.eye(max(targets) + 1)[list(targets)]  # (N, C)
    counts = member.sum(axis=0)
    means = (member.T @ seen) / counts[:, None]
    if rows is not None:
        judged = LinearHead.seen(np.asarray(rows, np.float64), l2=True)
        answers = cdist(judged, means, "sqeuclidean").argmin(axis=1)
        return np.asarray(answers == np.asarray(truths), np.bool_)
    own = np.asarray(targets)
    without = (counts[own, None] * means[own] - seen) / (counts[own, None] - 1)
    distances = cdist(seen, means, "sqeuclidean")
    distances[np.arange(len(own)), own] = np.square(seen - without).sum(axis=1)
    return np.asarray(distances.argmin(axis=1) == own, np.bool_)
