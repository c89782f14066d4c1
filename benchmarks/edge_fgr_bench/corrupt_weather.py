"""Weather of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with its strengths; no photographs.

Its frost is six photographs; ours is drawn (``corrupt_frost``) and mixed in with the same weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_fgr_bench.corrupt_blur import convolved, streak
from edge_fgr_bench.corrupt_frost import PLATES, SIDE, plate
from edge_fgr_bench.corrupt_noise import Floats, Pixels, scale_of, to_bytes, to_unit

__all__ = ["fog", "frost", "snow"]

_SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
"""Mean and deviation of noise, its enlargement, what it must exceed to be a flake, radius and
deviation of the motion (pixels), share of the picture that is not whitened."""

_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
"""Weights of the picture and of the frost."""

_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
"""Thickness, and by how much each octave is weaker than the one before."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def snow(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Let flakes fall past, and whiten what lies below: bright parts most."""
    scale = scale_of(pixels.shape)
    mean, deviation, zoom, least, radius, sigma, kept = _SNOW[severity - 1]
    height, width = pixels.shape[:2]
    zoom = max(1.0, zoom * scale)
    coarse = [int(np.ceil(length / zoom)) + 1 for length in (height, width)]
    noise = rng.standard_normal(coarse, dtype=np.float32) * np.float32(deviation)
    box = (0.0, 0.0, width / zoom, height / zoom)
    large = Image.fromarray(noise + np.float32(mean)).resize(
        (width, height), Image.Resampling.BILINEAR, box=box
    )
    flakes = np.asarray(large)
    flakes = np.where(flakes < least, np.float32(0), np.minimum(flakes, 1))[..., None]
    kernel = streak(radius * scale, sigma * scale, rng.uniform(-135, -45))
    falling = convolved(flakes, kernel)
    image = to_unit(pixels)
    # No matrix product: its bits may depend on the number of threads.
    grey: Floats = (image * _GREY).sum(axis=2, keepdims=True)
    white = np.maximum(image, grey * np.float32(1.5) + np.float32(0.5))
    covered = image * np.float32(kept) + white * np.float32(1 - kept)
    return to_bytes(covered + falling + falling[::-1, ::-1])


def frost(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Look through a frosted pane: a piece of one of six plates, turned and mirrored by chance."""
    scale = scale_of(pixels.shape)
    height, width = pixels.shape[:2]
    weight, ice = _FROST[severity - 1]
    whole = plate(int(rng.integers(PLATES)))
    if rng.integers(2):
        whole = whole.transpose(1, 0, 2)
    rows = _piece(rng, int(np.ceil(height / scale)))
    columns = _piece(rng, int(np.ceil(width / scale)))
    piece = to_bytes(whole[rows][:, columns])
    size = (width, height)
    pane = np.asarray(Image.fromarray(piece).resize(size, Image.Resampling.BILINEAR))
    return to_bytes(to_unit(pixels) * np.float32(weight) + to_unit(pane) * np.float32(ice))


def _piece(rng: np.random.Generator, length: int) -> npt.NDArray[np.intp]:
    """Return rows of a plate from a place by chance on, in one or the other order.

    Where the plate ends it goes on as its mirror image: pictures may be longer than a plate.
    """
    first = int(rng.integers(0, max(1, SIDE - length + 1)))
    places = (first + np.arange(length)) % (2 * SIDE)
    found = np.minimum(places, 2 * SIDE - 1 - places)
    return found[::-1] if rng.integers(2) else found


def fog(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Add clouds of noise in octaves, and scale the whole back to the brightest value it had."""
    thickness, decay = _FOG[severity - 1]
    image = to_unit(pixels)
    brightest = float(image.max())
    clouds = _clouds(rng, pixels.shape[:2], decay)[..., None]
    share = np.float32(brightest / max(brightest + thickness, 1e-6))
    return to_bytes((image + clouds * np.float32(thickness)) * share)


def _clouds(rng: np.random.Generator, shape: tuple[int, ...], decay: float) -> Floats:
    """Return noise from 0 to 1: waves as long as the short side, half of that, and so on.

    Midpoint displacement (Fournier, Fussell and Carpenter, CACM 1982) on whole grids: each is
    enlarged twofold and takes ``decay`` times weaker noise.
    """
    strength, cell = 1.0, float(min(shape))
    field = _displaced(rng, shape, cell, strength)
    while cell >= 2:
        strength, cell = strength / decay, cell / 2
        finer = _displaced(rng, shape, cell, strength)
        # Its points are those of the coarser grid and the middles between them.
        size = (finer.shape[1], finer.shape[0])
        box = (0.25, 0.25, size[0] / 2 + 0.25, size[1] / 2 + 0.25)
        field = finer + np.asarray(
            Image.fromarray(field).resize(size, Image.Resampling.BILINEAR, box=box)
        )
    size = (shape[1], shape[0])
    box = (0.0, 0.0, shape[1] / cell, shape[0] / cell)
    whole = np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BILINEAR, box=box))
    low, high = whole.min(), whole.max()
    found: Floats = (whole - low) / max(high - low, np.float32(1e-6))
    return found


def _displaced(
    rng: np.random.Generator, shape: tuple[int, ...], cell: float, strength: float
) -> Floats:
    """Return noise at the corners of cells, so many pixels wide, that cover a picture."""
    grid = [int(np.ceil(length / cell)) + 1 for length in shape]
    return rng.uniform(-strength, strength, grid).astype(np.float32)
