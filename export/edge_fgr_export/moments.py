"""Running sums over image files: what kernels see, and how far single channels reach."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Kernel", "Moments", "Peaks"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_POSITIONS = 512
"""Positions of a tensor and batch that go into its covariance."""


class Kernel(NamedTuple):
    """What convolutions of one kind read.

    Attributes:
        tensor: its name.
        size: (kh, kw) of the kernel.
        groups: of channels that are convolved apart; 1 is dense, as many as channels is depthwise.
    """

    tensor: str
    size: tuple[int, ...]
    groups: int = 1


class Moments:
    """Running second moments of what a kernel sees at evenly spaced positions of each batch."""

    def __init__(self, kernel: Kernel) -> None:
        self._size, self._groups = kernel.size, kernel.groups
        self._count = 0
        self._sum: Any = 0.0
        self._products: Any = 0.0

    def add(self, values: Floats) -> None:
        """Take in a tensor ``(N, C, h, w)``; one below the kernel's size is padded with zeros."""
        short = [max(0, k - side) for k, side in zip(self._size, values.shape[2:], strict=True)]
        if any(short):
            values = np.pad(values, [(0, 0), (0, 0), *((n // 2, n - n // 2) for n in short)])
        windows = np.lib.stride_tricks.sliding_window_view(values, self._size, axis=(2, 3))
        places = values.shape[0] * windows.shape[2] * windows.shape[3]
        step = max(1, round((places / _POSITIONS) ** 0.5))
        sparse = windows[:, :, ::step, ::step]  # (N, C, h', w', kh, kw)
        each = values.shape[1] // self._groups
        parts = sparse.reshape(len(values), self._groups, each, *sparse.shape[2:])
        width = each * self._size[0] * self._size[1]
        # Doubles: what varies little around a large mean is lost in the squares of floats.
        rows = parts.transpose(1, 0, 3, 4, 5, 6, 2).reshape(self._groups, -1, width).astype(float)
        self._count += rows.shape[1]
        self._sum = self._sum + rows.sum(axis=1)
        self._products = self._products + rows.transpose(0, 2, 1) @ rows

    def covariance(self) -> Doubles:
        """Return ``(G, K, K)`` over (kh, kw, channel)."""
        mean = self._sum / self._count
        result: Doubles = self._products / self._count - mean[:, :, None] * mean[:, None, :]
        return result


class Peaks:
    """How far each channel goes in an image, as a rule: mean and spread of its largest value."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: Floats) -> None:
        """Take in a tensor ``(N, C, …)``."""
        largest = np.abs(values).reshape(*values.shape[:2], -1).max(axis=2).astype(float)
        self._count += len(largest)
        self._sum = self._sum + largest.sum(axis=0)
        self._squares = self._squares + (largest**2).sum(axis=0)

    def reach(self) -> Doubles:
        """Return ``(C,)``: two standard deviations above the mean."""
        mean = self._sum / self._count
        spread = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0))
        result: Doubles = mean + 2 * spread
        return result
