"""Digital corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with its strengths."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from edge_fgr_bench.corrupt_noise import Floats, Pixels, scale_of, to_bytes, to_unit

__all__ = ["brightness", "contrast", "elastic_transform", "jpeg_compression", "pixelate"]

_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Added to the value of HSV; white is 1."""

_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
"""What differences from the mean are multiplied with."""

_ELASTIC = (
    (488.0, 170.8, 24.4),
    (488.0, 19.52, 48.8),
    (12.2, 2.44, 4.88),
    (17.08, 2.44, 4.88),
    (29.28, 2.44, 4.88),
)
"""Strength and standard deviation of local shifts, and the largest shift of three anchor points.

In pixels: multiples of 244, which the authors wrote for 224.
"""

_PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Side of the reduced picture; the whole one is 1."""

_JPEG = (25, 18, 15, 10, 7)
"""Quality, as libjpeg and Pillow count it."""


def brightness(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Raise the value of HSV; hue and saturation stay."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    raised = np.minimum(values + np.float32(_BRIGHTNESS[severity - 1]), 1)
    gain = raised / np.maximum(values, np.float32(1 / 255))
    largest = pixels.max(axis=2)
    lifted = to_unit(pixels) * gain.take(largest)[..., None]
    lifted[largest == 0] = raised[0]  # black has no hue: it becomes grey
    return to_bytes(lifted)


def contrast(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Pull each channel towards its mean."""
    share = np.float32(_CONTRAST[severity - 1])
    means = pixels.mean(axis=(0, 1)).astype(np.float32) / np.float32(255)
    return to_bytes(to_unit(pixels) * share + means * (1 - share))


def elastic_transform(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Shift, turn and shear, and stretch locally; sampled once, bilinearly, mirrored at the edges.

    Local shifts are smoothed noise (Simard, Steinkraus and Platt, ICDAR 2003). The first two
    strengths mostly move the whole object, the others mostly crumple it, as published.
    """
    height, width = pixels.shape[:2]
    scale = scale_of(pixels.shape)
    strength, sigma, anchor = _ELASTIC[severity - 1]
    side = min(height, width) // 3
    centre = np.array([height, width]) / 2
    anchors = centre + side * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = anchors + rng.uniform(-anchor * scale, anchor * scale, (3, 2))
    ones = np.ones((3, 1))
    affine = np.linalg.solve(np.hstack([anchors, ones]), moved).astype(np.float32)  # (3, 2)
    # Uniform noise from -1 to 1 under a Gaussian filter has this standard deviation.
    length = np.float32(scale * strength / (np.sqrt(3) * 2 * np.sqrt(np.pi) * sigma))
    shift = [length * _smooth(rng, (height, width), sigma * scale) for _ in range(2)]
    y = np.arange(height, dtype=np.float32)[:, None] + shift[0]
    x = np.arange(width, dtype=np.float32) + shift[1]
    rows, columns = (y * affine[0, i] + x * affine[1, i] + affine[2, i] for i in range(2))
    return to_bytes(_sampled(to_unit(pixels), rows, columns))


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Floats:
    """Return noise of variance 1 that a Gaussian of ``sigma`` pixels has smoothed.

    Wide ones are made on a coarse grid, where the filter is short.
    """
    step = max(1.0, sigma / 3)
    coarse = [max(2, int(np.ceil(length / step)) + 1) for length in shape]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    narrow = sigma / step
    smooth: Floats = ndimage.gaussian_filter(noise, narrow, mode="wrap")
    smooth *= np.float32(max(2 * np.sqrt(np.pi) * narrow, 1))
    if step == 1:
        return smooth[: shape[0], : shape[1]]
    box = (0.0, 0.0, shape[1] / step, shape[0] / step)
    picture = Image.fromarray(smooth)
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BICUBIC, box=box))


def _sampled(image: Floats, rows: Floats, columns: Floats) -> Floats:
    """Sample ``(H, W, 3)`` bilinearly at places ``(h, w)``; beyond the edge it is mirrored."""
    height, width = image.shape[:2]
    rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    top = np.minimum(rows.astype(np.intp), height - 2)
    left = np.minimum(columns.astype(np.intp), width - 2)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    at, colours = top * width + left, image.reshape(-1, 3)
    down, right = down[..., None], right[..., None]
    upper = colours.take(at, axis=0) * (1 - right) + colours.take(at + 1, axis=0) * right
    at += width
    lower = colours.take(at, axis=0) * (1 - right) + colours.take(at + 1, axis=0) * right
    found: Floats = upper + (lower - upper) * down
    return found


def _mirrored(places: Floats, length: int) -> Floats:
    last = np.float32(length - 1)
    folded = np.abs(places) % (2 * last)
    found: Floats = np.minimum(folded, 2 * last - folded)
    return found


def pixelate(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Reduce by averaging, and enlarge again to blocks."""
    share = _PIXELATE[severity - 1] / scale_of(pixels.shape)
    height, width = pixels.shape[:2]
    few = (max(1, min(width, int(width * share))), max(1, min(height, int(height * share))))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(few, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX)).copy()


def jpeg_compression(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Encode as JPEG at a low quality and decode again. Blocks stay 8 by 8 at every size."""
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(file, "JPEG", quality=_JPEG[severity - 1])
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB")).copy()
