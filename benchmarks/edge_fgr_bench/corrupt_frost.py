"""Plates of window frost, drawn by a program: ferns of ice from their main stems down."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from edge_fgr_bench.corrupt_noise import Floats

__all__ = ["PLATES", "SIDE", "plate"]

PLATES = 6
"""How many there are; ImageNet-C has six photographs."""

SIDE = 512
"""Of a plate, in pixels of a picture whose short side is 224."""

_FINE = 2
"""Drawn this many times larger, then averaged: smooth lines."""

_STEMS = 170
"""Of both lengths: a few long ones over many short ones."""


@lru_cache(maxsize=PLATES)
def plate(index: int) -> Floats:
    """Return plate 0 to 5: float32 ``(SIDE, SIDE, 3)``, 0 to 1, bluish white on a dark pane.

    Made once in a process, in under a second; read-only.
    """
    rng = np.random.default_rng([0xF057, index])
    size = SIDE * _FINE
    canvas = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(canvas)
    lean = rng.uniform(0, 2 * math.pi)  # most grow roughly one way, as frost does
    for least, most in ((0.03, 0.09), (0.11, 0.26)):
        for _ in range(_STEMS):
            place = (rng.uniform(0, size), rng.uniform(0, size))
            _fern(pen, rng, place, lean + rng.normal(0, 0.9), size * rng.uniform(least, most), 0)
    lines = np.asarray(canvas.reduce(_FINE), np.float32) / np.float32(255)
    # Needles grow into plumes: each is thick near its line and thin away from it.
    plumes = [ndimage.gaussian_filter(lines, sigma, mode="wrap") for sigma in (1.2, 4.0)]
    crust = np.abs(_patches(rng, 1.5)) * (1 + 0.5 * _patches(rng, 12.0))  # granular ice
    cover = np.clip(0.75 + 0.3 * _patches(rng, 50.0), 0.35, 1.15)  # dense here, thin there
    ice = 0.22 * lines + 0.5 * plumes[0] + 0.75 * plumes[1] + 0.1 * crust
    light = np.clip(0.18 + cover * ice, 0, 1)[..., None]
    tint = np.array([0.8, 0.92, 1.0], np.float32)  # white where thick, blue where thin
    found: Floats = (light * (tint + (1 - tint) * light)).astype(np.float32)
    found.setflags(write=False)
    return found


def _patches(rng: np.random.Generator, sigma: float) -> Floats:
    """Return smooth noise over a plate, of mean 0 and variance 1."""
    noise = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    smooth: Floats = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    smooth -= smooth.mean()
    smooth /= smooth.std()
    return smooth


def _fern(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    depth: int,
) -> None:
    """Draw a bent stem with side branches on both sides, shorter towards its tip."""
    steps = max(2, int(length / (14, 9, 7)[depth]))
    bend = rng.normal(0, (0.9, 0.5, 0.2)[depth]) / steps
    turns = angle + np.arange(steps) * bend + rng.normal(0, 0.03, steps)
    stride = length / steps
    x = start[0] + np.concatenate([[0.0], np.cumsum(np.cos(turns))]) * stride
    y = start[1] + np.concatenate([[0.0], np.cumsum(np.sin(turns))]) * stride
    light = int(rng.uniform(*((150, 255), (110, 210), (70, 170))[depth]))
    if depth < 2:
        for i in range(1, steps):
            for side in (-1, 1):
                reach = length * (0.32, 0.4)[depth] * (1 - i / steps) ** 0.8 * rng.uniform(0.5, 1.1)
                if reach > 5:
                    out = turns[i] + side * math.radians(rng.normal(58, 5))
                    _fern(pen, rng, (x[i], y[i]), out, reach, depth + 1)
    points = np.stack([x, y], axis=1).ravel().tolist()
    pen.line(points, fill=light, width=(3, 2, 1)[depth])
