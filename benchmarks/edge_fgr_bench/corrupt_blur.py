"""Blurs of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with its strengths.

Large kernels go through the Fourier transform; edges are mirrored. Kernels are centred on their
mass, so that no blur shifts the picture.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft, ndimage

from edge_fgr_bench.corrupt_noise import Floats, Pixels, scale_of, to_bytes, to_unit

__all__ = [
    "convolved",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "path_kernel",
    "streak",
    "zoom_blur",
]

_DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
"""Radius of the disc and standard deviation of what softens its edge, in pixels."""

_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Standard deviation of the blur, the longest swap (both in pixels), and rounds of swaps."""

_MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
"""Radius and standard deviation of half a Gaussian along a line, in pixels."""

_ZOOM = ((0.11, 0.01), (0.16, 0.01), (0.21, 0.02), (0.26, 0.02), (0.31, 0.03))
"""The enlargements averaged: from 1 up to 1 + the first (excluded) in steps of the second."""


def convolved(image: Floats, kernel: Floats) -> Floats:
    """Convolve each channel of ``(H, W, C)`` with a centred kernel ``(h, w)``; same size."""
    (height, width), (h, w) = image.shape[:2], kernel.shape
    if h == w == 1:
        alone: Floats = image * kernel[0, 0]
        return alone
    before = ((0, 0), (h - 1 - h // 2, h // 2), (w - 1 - w // 2, w // 2))
    planes = np.pad(image.transpose(2, 0, 1), before, mode="symmetric")
    size = [fft.next_fast_len(side, real=True) for side in planes.shape[1:]]
    spectrum = fft.rfft2(planes, size) * fft.rfft2(kernel, size)
    whole = fft.irfft2(spectrum, size)  # wraps only where the padding is cut away
    found: Floats = whole[:, h - 1 : h - 1 + height, w - 1 : w - 1 + width].transpose(1, 2, 0)
    return found


def path_kernel(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> Floats:
    """Return the kernel, of sum 1, of a point that moves: its places in pixels, and how long there.

    Each place is shared bilinearly among four pixels; the centre of mass is the kernel's centre.
    """
    weights = weights / weights.sum()
    x, y = x - (x * weights).sum(), y - (y * weights).sum()
    reach = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 1
    side = 2 * reach + 1
    left, top = np.floor(x), np.floor(y)
    kernel = np.zeros(side * side)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (1 - np.abs(y - top - dy)) * (1 - np.abs(x - left - dx)) * weights
        at = (top + dy + reach) * side + left + dx + reach
        kernel += np.bincount(at.astype(np.intp), share, side * side)
    square = kernel.reshape(side, side).astype(np.float32)
    rows, columns = (np.flatnonzero(square.any(axis=axis)) for axis in (1, 0))
    spare = (min(rows[0], side - 1 - rows[-1]), min(columns[0], side - 1 - columns[-1]))
    return square[spare[0] : side - spare[0], spare[1] : side - spare[1]]


def streak(radius: float, sigma: float, degrees: float) -> Floats:
    """Return the kernel of a motion that fades out: half a Gaussian, ``2 * radius`` long."""
    length = min(2 * radius, 4 * sigma)
    along = np.linspace(0, length, 2 * math.ceil(length) + 2)
    angle = math.radians(degrees)
    weights = np.exp(-(along**2) / max(2 * sigma**2, 1e-6))
    return path_kernel(along * math.cos(angle), along * math.sin(angle), weights)


def defocus_blur(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Spread each point over a disc, as a lens does that is out of focus."""
    scale = scale_of(pixels.shape)
    radius, soft = _DEFOCUS[severity - 1]
    return to_bytes(convolved(to_unit(pixels), _disc(radius * scale, soft * scale)))


@lru_cache(maxsize=64)
def _disc(radius: float, soft: float) -> Floats:
    reach = math.ceil(radius + 3 * soft)
    across = np.arange(-reach, reach + 1)
    distance = np.hypot(across[:, None], across[None])
    disc = ndimage.gaussian_filter(np.clip(radius + 0.5 - distance, 0, 1), soft, mode="constant")
    kernel: Floats = (disc / disc.sum()).astype(np.float32)
    kernel.setflags(write=False)
    return kernel


def glass_blur(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Blur, take each pixel from a neighbour, blur again: frosted glass.

    The authors swap pixels one after the other; a sweep moves each about twice, by -d to d - 1.
    Here each takes a place drawn from that sum of moves, all at once, and lengths may be fractions.
    """
    scale = scale_of(pixels.shape)
    sigma, longest, rounds = _GLASS[severity - 1]
    blur = (sigma * scale, sigma * scale, 0)
    blurred: Floats = ndimage.gaussian_filter(to_unit(pixels), blur)
    height, width = pixels.shape[:2]
    moves = rng.integers(-longest, longest, (2 * rounds, 2, height, width), dtype=np.int8)
    moved = (moves.sum(axis=0, dtype=np.int8) + np.float32(rounds)) * np.float32(scale)
    # Rounded up or down by chance, so that small pictures are shaken too.
    steps = np.floor(moved + rng.random((2, height, width), dtype=np.float32)).astype(np.intp)
    rows = np.clip(steps[0] + np.arange(height)[:, None], 0, height - 1)
    columns = np.clip(steps[1] + np.arange(width), 0, width - 1)
    shaken = blurred.reshape(-1, 3).take(rows * width + columns, axis=0)
    return to_bytes(ndimage.gaussian_filter(shaken, blur))


def motion_blur(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Draw each point along a line, up to 45 degrees from the horizontal."""
    scale = scale_of(pixels.shape)
    radius, sigma = _MOTION[severity - 1]
    kernel = streak(radius * scale, sigma * scale, rng.uniform(-45, 45))
    return to_bytes(convolved(to_unit(pixels), kernel))


def zoom_blur(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Average enlargements about the centre, as of a camera that moves ahead."""
    end, step = _ZOOM[severity - 1]
    height, width = pixels.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    factors = 1 + np.arange(0, end - step / 2, step)
    total = 2 * pixels.astype(np.uint16)  # the picture itself, and enlargement 1
    for factor in factors[1:]:
        left, top = (width - width / factor) / 2, (height - height / factor) / 2
        box = (left, top, width - left, height - top)
        total += np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return to_bytes(total * np.float32(1 / (255 * (len(factors) + 1))))
