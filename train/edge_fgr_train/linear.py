"""A chain's classifier as the graph computes it: one product, on unit length with ``l2``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LinearHead"]

Reals: TypeAlias = npt.NDArray[np.floating[Any]]

_LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Weight ``(C, D)`` and bias ``(C,)``; computes in the precision of what it is given."""

    weight: Reals
    bias: Reals
    l2: bool

    def __call__(self, embedding: Reals) -> Reals:
        """Return logits ``(N, C)`` of embeddings ``(N, D)``."""
        logits: Reals = self.seen(embedding, l2=self.l2) @ self.weight.T + self.bias
        return logits

    @staticmethod
    def seen(embedding: Reals, *, l2: bool) -> Reals:
        """Return what the product sees of embeddings ``(…, D)``; a row of zeros stays."""
        if not l2:
            return embedding
        length = np.linalg.norm(embedding, axis=-1, keepdims=True)
        unit: Reals = embedding / np.maximum(length, length.dtype.type(_LEAST_LENGTH))
        return unit
