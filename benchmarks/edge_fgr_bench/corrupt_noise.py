"""Noise on image values, and what all corruptions share: scales, rounding, random generators.

Strengths are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", ICLR 2019), as in its authors' released program.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Floats",
    "Pixels",
    "gaussian_noise",
    "impulse_noise",
    "scale_of",
    "shot_noise",
    "to_bytes",
    "to_unit",
]

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

_GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation; white is 1."""

_SHOT = (60, 25, 12, 5, 3)
"""Mean count of a white value."""

_IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of the values that become black or white."""


def scale_of(shape: tuple[int, ...]) -> float:
    """Return what lengths are multiplied with: they are given for a short side of 224 pixels."""
    return min(shape[:2]) / 224


def to_unit(pixels: Pixels) -> Floats:
    """Return bytes as float32 from 0 to 1."""
    return pixels * np.float32(1 / 255)


def to_bytes(values: Floats) -> Pixels:
    """Return values from 0 to 1 as bytes, clipped and rounded to the nearest."""
    found: Pixels = np.clip(values * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    return found


def gaussian_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add normal noise, each value on its own."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return to_bytes(to_unit(pixels) + noise * np.float32(_GAUSSIAN[severity - 1]))


def shot_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Count photons: Poisson noise of image values (not of light: see ``sensor_noise``)."""
    photons = _SHOT[severity - 1]
    counts = rng.poisson(pixels * (photons / 255))
    return to_bytes(counts.astype(np.float32) / np.float32(photons))


def impulse_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Set a share of the values to black or white, as often the one as the other."""
    drawn = rng.integers(0, 1 << 16, pixels.shape, dtype=np.uint16)
    hit = round(_IMPULSE[severity - 1] * (1 << 16))
    found = np.where(drawn < hit, np.uint8(255), pixels)
    return np.where(drawn < hit // 2, np.uint8(0), found)
