"""Tiny evidence in large pictures: a picture is cut into tiles, and its worst tile decides.

Learning from pictures whose tiles have no labels is multiple-instance learning (Carbonneau et al.
2018, "Multiple instance learning: A survey of problem characteristics and applications", section
2.1): a picture is bad if any tile is. Each tile goes through backbone, pooling and head alone, so
that nothing is drowned by a mean over the whole picture. What "worst" means:

- with a class ``good``, "nothing found", the tile in which any other class stands highest above it;
- without one, the tile with the highest logit of all: the one that is most certain of anything.

A finished network takes logits and embedding of that one tile: the logits stay one product with
the embedding, which is what evidence maps, enrolled classes and the score of unknown images need.
The largest logit above ``good`` would be the same with the largest over the tiles class by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edge_fgr.errors import UsageError

if TYPE_CHECKING:
    from edge_fgr.contract import Label
    from edge_fgr_train.settings import Model

__all__ = ["cut", "good_of", "soft_worst", "stitch", "worst"]

_SHARPNESS = 2.0
"""Factor of a logit in the weights of tiles. At the start, where logits are small, all tiles learn;
two tiles apart by 2 logits have 98 % and 2 %."""


def cut(pixels: Tensor, tiles: int) -> Tensor:
    """Return the tiles ``(N * tiles², H / tiles, W / tiles, 3)`` of pixels ``(N, H, W, 3)``.

    Picture by picture, and in each row by row.
    """
    count, height, width, channels = pixels.shape
    h, w = height // tiles, width // tiles
    split = pixels.reshape(count, tiles, h, tiles, w, channels).transpose(2, 3)
    return split.reshape(count * tiles * tiles, h, w, channels)


def stitch(features: Tensor, tiles: int) -> Tensor:
    """Return features ``(N, K, tiles * h, tiles * w)`` of those of tiles ``(N * tiles², K, h, w)``.

    The order is that of ``cut``.
    """
    _, channels, h, w = features.shape
    split = features.reshape(-1, tiles, tiles, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return split.reshape(-1, channels, tiles * h, tiles * w)


def worst(logits: Tensor, good: int | None) -> Tensor:
    """Return which tile decides, int64 ``(N,)``, of logits ``(N, T, C)``; the first of equal ones.

    Args:
        logits: of each tile.
        good: the class that means "nothing found".
    """
    if good is None:
        return logits.amax(2).argmax(1)
    others = [place for place in range(logits.shape[2]) if place != good]
    return (logits[:, :, others].amax(2) - logits[:, :, good]).argmax(1)


def soft_worst(logits: Tensor, good: int | None) -> Tensor:
    """Return the logits ``(N, C)`` that a network learns by, of those of its tiles ``(N, T, C)``.

    For each class the mean over tiles, weighted by a softmax of its own logits, whose weights count
    as given (attention over the instances of a bag: Ilse et al. 2018, "Attention-based Deep
    Multiple Instance Learning", section 2.4, with the logits themselves as the scores). By the
    largest alone only one tile would learn, by chance the wrong one at the start. With ``good``
    logits are those above it, and its own is 0.
    """
    values = logits.float()
    if good is not None:
        values = values - values[:, :, good : good + 1]
    weights = torch.softmax(_SHARPNESS * values.detach(), 1)
    return (weights * values).sum(1)


def good_of(model: Model, labels: Sequence[Label]) -> int | None:
    """Return the place of the class ``model.good`` among the labels; None where none is named.

    Raises:
        UsageError: there is no such class.
    """
    if not model.good:
        return None
    names = ["/".join(label) for label in labels]
    if model.good in names:
        return names.index(model.good)
    last = [label[-1] for label in labels]
    if last.count(model.good) == 1:
        return last.index(model.good)
    by_lower = {name.lower(): name for name in [*last, *names]}
    near = [name for name in names if name.endswith(f"/{model.good}")] or [
        by_lower[name] for name in get_close_matches(model.good.lower(), list(by_lower), 3)
    ]
    raise UsageError(
        f"recipe: model.good {model.good!r} is no class of the data; "
        f"{'near it' if near else 'there are'}: {', '.join(near or names[:8])}"
    )
