"""Training pictures as bad light, a shaking hand and a poor camera leave them; and AugMix.

Every draw comes from the generator that is handed in, so a picture depends on (seed, epoch, image).

What is drawn here is made otherwise than the corruptions that ``edge_fgr_bench`` judges by, and
leaves most of their kinds out, so that these stay held out: docs/robustness.md has the list.
"""

from __future__ import annotations

import io
from math import cos, pi, sin
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edge_fgr_train.policies import augmix

__all__ = ["Weather", "weathered"]

Pixels = npt.NDArray[np.uint8]
Weather = Literal["augmix", "camera", "both"]

_GAMMA = 2.2
"""Light is about the coded value to this power; exposure and white balance act on light."""

_STOPS = 1.3
"""Exposure errs by up to so many stops, either way."""

_CAST = 0.12
"""Standard deviation of the logarithms of the gains of red and blue."""

_SHAKE, _FOCUS = 0.07, 0.016
"""Longest streak, and largest deviation of the blur, as shares of the picture's shorter side."""

_GAIN, _FLOOR = (1e-4, 3e-2), (1e-3, 0.12)
"""Ranges of the noise's variance for each unit of light, and of its deviation in the dark; drawn by
their logarithms, so that most noise is weak."""

_QUALITY = (12, 60)
"""Of JPEG, as Pillow counts it."""


def weathered(pixels: Pixels, kind: Weather, draws: np.random.Generator) -> Pixels:
    """Return changed pixels ``(H, W, 3)``, uint8, in memory of their own.

    Args:
        pixels: uint8 ``(H, W, 3)``, RGB, each side 16 pixels or more; left as they are.
        kind: ``augmix``, ``camera``, or ``both`` in this order: a camera looks at the world.
        draws: where chance comes from.
    """
    if kind != "camera":
        pixels = np.array(augmix(Image.fromarray(pixels), draws))
    return _camera(pixels, draws) if kind != "augmix" else pixels


def _camera(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Take the picture again with a poor camera: each fault comes in some of the pictures.

    In the order of the light's way: exposure and white balance, blur, the sensor, the file.
    """
    exposed, blurred, noisy, packed = draws.random(4) < (0.6, 0.4, 0.4, 0.4)
    if exposed:
        pixels = _exposed(pixels, draws)
    if blurred:
        pixels = _shaken(pixels, draws) if draws.random() < 0.5 else _unfocused(pixels, draws)
    if noisy:
        pixels = _noisy(pixels, draws)
    return _packed(pixels, draws) if packed else np.array(pixels)


def _exposed(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Multiply light by one gain, and red and blue by one more each; what is too bright clips."""
    gains = np.array([draws.normal(0, _CAST), 0.0, draws.normal(0, _CAST)])
    gains += draws.uniform(-_STOPS, _STOPS) * np.log(2)
    coded = np.arange(256) / 255 * np.exp(gains / _GAMMA)[:, None]  # (3, 256)
    table = np.rint(coded.clip(0, 1) * 255).astype(np.uint8)
    return np.stack([table[c][pixels[..., c]] for c in range(3)], axis=2)


def _shaken(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Draw the picture along a line: the mean of copies a pixel apart."""
    height, width = pixels.shape[:2]
    length = draws.uniform(2.5, max(3.0, _SHAKE * min(height, width)))
    angle = draws.uniform(0, pi)
    steps = np.linspace(-length / 2, length / 2, round(length) + 1)
    places = [(round(s * sin(angle)), round(s * cos(angle))) for s in steps.tolist()]
    margin = max(max(abs(y), abs(x)) for y, x in places)
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    total = np.full(pixels.shape, len(places) // 2, np.uint16)  # so that division rounds
    for y, x in places:
        total += wide[margin + y : margin + y + height, margin + x : margin + x + width]
    return (total // len(places)).astype(np.uint8)


def _unfocused(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    deviation = draws.uniform(0.5, max(0.8, _FOCUS * min(pixels.shape[:2])))
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(deviation)))


def _noisy(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Add noise that grows with the light: fine grain, or the blotches that smoothing leaves."""
    height, width = pixels.shape[:2]
    gain = np.exp(draws.uniform(*np.log(_GAIN)))
    floor = np.exp(draws.uniform(*np.log(_FLOOR)))
    deviation = 255 * np.sqrt(gain * np.arange(256) / 255 + floor**2)  # by coded value
    cell = int(draws.integers(1, 3))
    small = (-(-height // cell), -(-width // cell), 3)
    grain = draws.standard_normal(small, np.float32)
    if cell > 1:
        grain = grain.repeat(cell, axis=0)[:height].repeat(cell, axis=1)[:, :width]
    grain *= deviation.astype(np.float32)[pixels]
    grain += pixels
    return np.rint(grain).clip(0, 255).astype(np.uint8)


def _packed(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    quality = int(draws.integers(_QUALITY[0], _QUALITY[1] + 1))
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as picture:
        return np.array(picture)
