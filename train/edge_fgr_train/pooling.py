"""From features at positions to one embedding, other than by their plain mean.

Both are a few operators after the last convolution, and a mean over positions among them. They are
computed in float on the device: 49 positions, against millions before them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

__all__ = ["Bilinear", "GeM", "pooling"]

_LEAST = 1e-6


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


def pooling(kind: Literal["gem", "bilinear"], width: int, rank: int) -> tuple[nn.Module, int]:
    """Return the pooling of features of ``width`` channels, and the length of its embedding."""
    if kind == "gem":
        return GeM(), width
    return Bilinear(width, rank), rank
