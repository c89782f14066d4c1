"""Heads that look at angles alone: one direction a class.

What they learn is one product on an embedding of length 1, which is how a finished network is kept:
the exporter and the device know linear heads only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_fgr_train.settings import Model

__all__ = ["CosineHead", "new_head", "with_margin"]

_SURE = 1 - 1e-6
"""The slope of the arc cosine is infinite at 1."""


class CosineHead(nn.Linear):
    """Cosines to the rows of the weight, times ``scale``; takes embeddings of length 1.

    No bias: the direction alone says how likely a class is (Gidaris & Komodakis 2018, section 3.2).
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__(width, classes)
        self.scale = scale
        self.bias.requires_grad_(False)

    def forward(self, unit: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of embeddings ``(N, D)`` of length 1."""
        return functional.linear(unit, self.directions(), self.bias)

    def directions(self) -> Tensor:
        """Return the weight ``(C, D)`` of the linear head that computes the same."""
        return functional.normalize(self.weight) * self.scale


def new_head(width: int, classes: int, model: Model) -> nn.Linear:
    """Return a head of the recipe's kind that has learnt nothing: small weights, no bias."""
    head = (
        nn.Linear(width, classes)
        if model.head == "linear"
        else CosineHead(width, classes, model.scale)
    )
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def with_margin(logits: Tensor, targets: Tensor, scale: float, margin: float) -> Tensor:
    """Return logits as if each target were ``margin`` further away (Deng et al. 2019, section 2.1).

    Args:
        logits: cosines times ``scale``, ``(N, C)``.
        targets: classes ``(N,)``, or shares ``(N, C)`` of mixed pictures: their margin is shared.
        scale: of the cosines.
        margin: in radians. Angles end at half a turn.
    """
    shares = targets if targets.ndim == 2 else functional.one_hot(targets, logits.shape[1])
    angles = (logits / scale).clamp(-_SURE, _SURE).acos()
    return (angles + margin * shares).clamp_max(torch.pi).cos() * scale
