"""Batches of training pictures, drawn ahead by threads while the network computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from edge_fgr.parallel import cores, ordered_map
from edge_fgr_train.augment import TrainingSet, seed_of
from edge_fgr_train.ranks import ALONE, Ranks
from edge_fgr_train.sampling import Sampler, draw_order
from edge_fgr_train.settings_steps import Augment

__all__ = ["draw_batches", "mixer"]


def draw_batches(
    pictures: TrainingSet,
    size: int,
    seed: int,
    steps: int,
    sampler: Sampler = "natural",
    ranks: Ranks = ALONE,
    before: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels uint8 ``(N, H, W, 3)`` and classes ``(N,)``.

    They are ``steps`` full batches, chosen in an order that depends on (seed, epoch) alone, on no
    rank; of each the rank's own part, and so many pictures ``before`` it.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, pictures.epoch))
    order = draw_order(pictures.targets, sampler, generator)
    chosen = [ranks.own(order[step * size : (step + 1) * size], before) for step in range(steps)]
    # Two draw on a small machine: one would be drawn in the caller's own thread.
    workers = min(8, max(2, cores() // ranks.neighbours // 2))
    yield from ordered_map(
        lambda rows: _batch([pictures.draw(*row) for row in rows]), chosen, workers
    )


def _batch(drawn: Sequence[tuple[npt.NDArray[np.uint8], int]]) -> tuple[Tensor, Tensor]:
    return (
        torch.from_numpy(np.stack([pixels for pixels, _ in drawn])),
        torch.tensor([target for _, target in drawn]),
    )


def mixer(rules: Augment, classes: int) -> v2.Transform | None:
    """Return the batch transform of the recipe: mixup or CutMix now and then, or None."""
    options: list[v2.Transform] = []
    if rules.mixup:
        options.append(v2.MixUp(alpha=rules.mixup, num_classes=classes))
    if rules.cutmix:
        options.append(v2.CutMix(alpha=rules.cutmix, num_classes=classes))
    return v2.RandomApply([v2.RandomChoice(options)], rules.mixed) if options else None
