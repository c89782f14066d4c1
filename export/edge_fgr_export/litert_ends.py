"""Both ends of a torch program for LiteRT: from pixels to codes, from an embedding to logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edge_fgr_export.litert_pieces import Codes, Weights

__all__ = ["Head", "Table"]

_LEAST_LENGTH = 1e-12
"""What a shorter embedding is divided by, as in ``heads``."""

Floats = npt.NDArray[np.float32]


class Table(nn.Module):
    """Codes of each level of each channel, where the channels are normalised unlike.

    The converter looks up floats and rounds them; ``litert_file`` rounds the table instead.
    """

    def __init__(self, values: Floats, codes: Codes) -> None:
        """Take values ``(3, 256)`` that stand on codes."""
        super().__init__()
        self._values = nn.Buffer(torch.from_numpy(values.reshape(-1, 1)))
        self._first = nn.Buffer(torch.arange(0, values.size, 256, dtype=torch.int32))
        self._codes = codes

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return codes ``(1, H, W, 3)`` of uint8 pixels."""
        places = pixels.to(torch.int32) + self._first
        return self._codes.of(functional.embedding(places, self._values).flatten(3))


class Head(nn.Module):
    """From the embedding to the logits; see ``heads`` for unit length and fine weights."""

    def __init__(self, codes: Codes, parts: Sequence[Weights], shift: Floats | None) -> None:
        """Take the codes of the embedding and the weights, whose products are added.

        Args:
            codes: of the embedding.
            parts: one, or coarse and fine.
            shift: ``(C,)``, added after the division by the length; None: without unit length.
        """
        super().__init__()
        self._codes = codes
        self._products = nn.ModuleList(_Product(part, codes) for part in parts)
        self._shift = None if shift is None else nn.Buffer(torch.from_numpy(shift))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return logits ``(1, C)`` of the codes of an embedding ``(1, D)``."""
        embedding = self._codes.read(codes)
        total: torch.Tensor
        total, *rest = (product(embedding) for product in self._products)
        for more in rest:
            total = total + more
        if self._shift is not None:
            length = embedding.square().sum(dim=1, keepdim=True).sqrt().clamp(min=_LEAST_LENGTH)
            total = total / length + self._shift
        return total


class _Product(nn.Module):
    """A linear layer whose result is rounded to int16.

    LiteRT has no product of int8 that stays finer than 8 bits, but one of int16 with int8 weights.
    So the embedding goes to int16, code by code (``litert_file``), the bias stays int32, and only
    the last rounding is new: to int16, with a scale that holds the largest result that any
    embedding could give.
    """

    def __init__(self, weights: Weights, codes: Codes) -> None:
        super().__init__()
        self._weights = weights
        low, high = (weights().double() * end for end in codes.ends)
        bias = weights.bias.double()
        top = torch.maximum(low, high).sum(1) + bias
        bottom = torch.minimum(low, high).sum(1) + bias
        reach = max(float(torch.maximum(top, -bottom).max()), 1e-12)
        self._result = Codes(reach / 32767, 0, torch.int16)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return ``(1, C)``."""
        weights = self._weights
        return self._result.rounded(functional.linear(embedding, weights(), weights.bias))
