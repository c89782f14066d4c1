"""From features at positions to one embedding, other than by their plain mean.

Each is a few operators after a convolution, and a mean over positions among them. They are
computed in float on the device: 49 positions, against millions before them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge_fgr.errors import UsageError

__all__ = ["Bilinear", "GeM", "Levels", "pooling", "unit_length"]

_LEAST = 1e-6
_LEAST_LENGTH = 1e-12

_SHARES = (3.0, 3.0, 1.0, 1.0)
"""Length of each part of ``Levels``, the last one of the head's convolution: docs/few-shots.md."""


class GeM(nn.Module):
    """Generalised mean of power 3: between the mean and the largest (Radenović et al. 2019)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(N, D)`` of features ``(N, D, h, w)``, whose negative values count as none."""
        x = features.float().clamp_min(0)
        return ((x * x * x).mean((2, 3)) + _LEAST).pow(1 / 3)


class Bilinear(nn.Module):
    """Products of two projections, averaged over positions: what occurs together, and how often.

    Each number is u' M v of the second moments M of the features, of rank 1; without ever forming
    M (Kim et al. 2017, "Hadamard Product for Low-rank Bilinear Pooling", section 2). Signed roots
    follow, as after full bilinear pooling (Lin et al. 2015, section 3.1).
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, rank, 1, bias=False)
        self.second = nn.Conv2d(width, rank, 1, bias=False)
        for part in (self.first, self.second):
            nn.init.normal_(part.weight, std=width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(N, rank)`` of features ``(N, D, h, w)``."""
        joint = (self.first(features).float() * self.second(features).float()).mean((2, 3))
        # The small number keeps the slope of the root finite at 0.
        rooted: Tensor = joint.sign() * ((joint.abs() + _LEAST).sqrt() - _LEAST**0.5)
        return rooted


_STAGES = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")


class Levels(nn.Module):
    """What several stages see, side by side: early ones hold textures that classes did not shape.

    Hypercolumns (Hariharan et al. 2015, "Hypercolumns for Object Segmentation and Fine-grained
    Localization", section 3), not of a place but of the picture: generalised means of power 3 of
    the absolute features of the last three stages and of the head's convolution, each scaled to a
    length of its own.

    Attributes:
        widths: channels of each.

    Raises:
        UsageError: the backbone is no EfficientNet.
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        if not all(hasattr(body, name) for name in _STAGES):
            raise UsageError("recipe: model.pool levels is for EfficientNets; choose gem or mean")
        training = body.training
        with torch.no_grad():
            found = self.features(body.eval(), torch.zeros(1, 3, 32, 32))
        body.train(training)
        self.widths = tuple(part.shape[1] for part in found)

    @staticmethod
    def features(body: Any, x: Tensor) -> tuple[Tensor, ...]:
        """Return features ``(N, K, h, w)`` of the last three stages and of the whole body."""
        x = body.bn1(body.conv_stem(x))
        found = []
        for stage in body.blocks:
            x = stage(x)
            found.append(x)
        return (*found[-3:], body.bn2(body.conv_head(x)))

    def forward(self, *features: Tensor) -> Tensor:
        """Return ``(N, D)``, D the sum of the widths."""
        parts = []
        for part, share in zip(features, _SHARES, strict=True):
            x = part.float().abs()
            mean = ((x * x * x).mean((2, 3)) + _LEAST).pow(1 / 3)
            parts.append(unit_length(mean) * share)
        return torch.cat(parts, 1)


def unit_length(embedding: Tensor) -> Tensor:
    """Scale rows ``(N, D)`` to Euclidean length 1; a row of zeros stays."""
    length: Tensor = torch.linalg.vector_norm(embedding, dim=1, keepdim=True)
    return embedding / length.clamp_min(_LEAST_LENGTH)


def pooling(
    kind: Literal["gem", "bilinear", "levels"], body: nn.Module, width: int, rank: int
) -> tuple[nn.Module, int]:
    """Return the pooling of ``body``'s features of ``width`` channels, and its embedding's length.

    Raises:
        UsageError: the body has no such parts.
    """
    if kind == "levels":
        levels = Levels(body)
        return levels, sum(levels.widths)
    if kind == "gem":
        return GeM(), width
    return Bilinear(width, rank), rank
