"""Embeddings of changed copies of images: what a classifier learns from when there are few.

A network that is not trained needs no gradient: a copy costs one pass forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import progress
from edge_fgr_train.augment import TrainingSet
from edge_fgr_train.dataset import Sample
from edge_fgr_train.embedder import Embedder
from edge_fgr_train.recipe import Recipe

__all__ = ["embed_views"]

Floats = npt.NDArray[np.float32]

_BATCH = 32


def embed_views(embedder: Embedder, samples: Sequence[Sample], recipe: Recipe) -> Floats:
    """Return embeddings ``(N, V, D)`` of ``chain.views`` changed copies of each image.

    They are drawn as in training, by ``augment`` and ``optimise.seed``, at the device's size; equal
    recipes give equal copies. Nothing is drawn where no views are asked for.

    Raises:
        ImageError: an image cannot be read.
    """
    count = recipe.chain.views if recipe.chain else 0
    if not count or not samples:
        return np.empty((len(samples), 0, 1), np.float32)
    rules = replace(recipe.augment, size=embedder.geometry.size, start_size=0)
    pictures = TrainingSet(
        samples, [0] * len(samples), rules, embedder.geometry, recipe.optimise.seed
    )
    run, rows = embedder.load(), list[Floats]()
    with progress(count * len(samples), "views") as advance:
        for view in range(count):
            pictures.epoch = view
            for start in range(0, len(samples), _BATCH):
                places = range(start, min(start + _BATCH, len(samples)))
                drawn = ordered_map(lambda place: pictures[place][0], places, cores())
                rows.append(run(np.stack(list(drawn))))
                advance(len(places), "")
    return np.concatenate(rows).reshape(count, len(samples), -1).swapaxes(0, 1)
