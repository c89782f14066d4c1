"""What a camera does to a picture: light, colour of light, sensor, hand and lens.

All of it happens in linear light: bytes go through the sRGB curve (IEC 61966-2-1) and back.
Strengths are ours, from what hand-held and fixed cameras show; ImageNet-C has none of these.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from edge_fgr_bench.corrupt_blur import convolved, path_kernel
from edge_fgr_bench.corrupt_noise import Floats, Pixels, scale_of

__all__ = [
    "exposure_over",
    "exposure_under",
    "hand_shake",
    "lens_flare",
    "low_light",
    "sensor_noise",
    "to_light",
    "to_srgb",
    "vignette",
    "white_balance",
]

_OVER = (0.5, 1.0, 1.5, 2.0, 2.5)
"""Stops too much: each doubles the light."""

_UNDER = (1.0, 1.75, 2.5, 3.25, 4.0)
"""Stops too little."""

_KELVIN = (5400.0, 4700.0, 4100.0, 3500.0, 2900.0)
"""Colour temperature that the camera takes 6500 K for, or the other way round."""

_SENSOR = ((400, 2.0), (200, 2.0), (100, 2.5), (50, 2.5), (25, 2.5))
"""Electrons of white, and read noise in electrons: what is left of a sensor at high gain."""

_SHAKE = (4.0, 8.0, 12.0, 17.0, 23.0)
"""Length of the path in pixels."""

_LOW = ((1.0, 500, 2.5), (1.5, 350, 2.5), (2.0, 250, 2.5), (2.5, 180, 2.5), (3.0, 140, 2.5))
"""Stops that gain did not make up for, electrons of what came out white, read noise."""

_CORNER = (1.0, 1.75, 2.75, 4.0, 5.5)
"""Stops that the corner is darker than the centre."""

_FLARE = ((0.04, 0.5), (0.08, 0.8), (0.14, 1.2), (0.22, 1.8), (0.32, 2.6))
"""Veil over the whole picture, and light at the source; white is 1."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Of linear sRGB."""


@lru_cache(maxsize=1)
def _decoded() -> Floats:
    codes = np.arange(256) / 255
    light = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    table: Floats = light.astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _encoded() -> Pixels:
    light = np.arange(65536) / 65535
    codes = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    table: Pixels = np.rint(codes * 255).astype(np.uint8)
    return table


def to_light(pixels: Pixels) -> Floats:
    """Return sRGB bytes as linear light, float32 from 0 to 1."""
    return _decoded().take(pixels)


def to_srgb(light: Floats) -> Pixels:
    """Return linear light as sRGB bytes, clipped."""
    steps = np.clip(light * np.float32(65535) + np.float32(0.5), 0, 65535).astype(np.uint16)
    found: Pixels = _encoded().take(steps)
    return found


def exposure_over(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Expose too long: what is brighter than white is lost."""
    return to_srgb(_decoded() * np.float32(2 ** _OVER[severity - 1])).take(pixels)


def exposure_under(pixels: Pixels, severity: int, _rng: np.random.Generator) -> Pixels:
    """Expose too briefly: shadows fall together in few dark codes."""
    return to_srgb(_decoded() * np.float32(2 ** -_UNDER[severity - 1])).take(pixels)


def white_balance(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Set the camera for another light: a warm or a cold cast, at the same mean luminance.

    Channels are multiplied in linear light, as a camera's balance does (von Kries, 1902).
    """
    gains = _blackbody(_KELVIN[severity - 1]) / _blackbody(6500.0)
    if rng.integers(2):
        gains = 1 / gains
    light = to_light(pixels)
    means = light.mean(axis=(0, 1), dtype=np.float64) * _LUMINANCE
    gains *= max(means.sum(), 1e-9) / max((means * gains).sum(), 1e-9)
    return to_srgb(light * gains.astype(np.float32))


def _blackbody(kelvin: float) -> npt.NDArray[np.float64]:
    """Return the linear sRGB colour of a black body.

    Its chromaticity follows the cubic fit of Kim et al. (US patent 7,024,034, 2006), 1667 to
    25000 K.
    """
    t = 1e3 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    to_rgb = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    rgb: npt.NDArray[np.float64] = (to_rgb * xyz).sum(axis=1)
    return rgb


def sensor_noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Count electrons, read them with noise, and smooth the noise as demosaicing does.

    Poisson and Gaussian noise in linear light (Foi et al., IEEE TIP 2008).
    """
    white, read = _SENSOR[severity - 1]
    light = to_light(pixels)
    return to_srgb(light + _electron_noise(light, white, read, rng))


def _electron_noise(light: Floats, white: float, read: float, rng: np.random.Generator) -> Floats:
    """Return the noise of light: variance ``(light * white + read**2) / white**2``."""
    signal = light * np.float32(white)
    noise = rng.poisson(signal).astype(np.float32) - signal
    noise += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(read)
    # Missing colours are interpolated from neighbours: errors are shared with them.
    weights = [0.25, 0.5, 0.25]
    for axis in (0, 1):
        noise = ndimage.correlate1d(noise, weights, axis=axis, mode="mirror")
    return noise * np.float32(1 / (white * sum(weight**2 for weight in weights)))


def hand_shake(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Move the camera along a bent path during the exposure (as Boracchi and Foi, TIP 2012)."""
    length = _SHAKE[severity - 1] * scale_of(pixels.shape)
    steps = 4 * math.ceil(length) + 8
    time = np.linspace(0, 1, steps)
    bend = rng.normal(0, 1.2) + rng.normal(0, 2.0) * time
    heading = rng.uniform(0, 2 * np.pi) + bend * time + rng.normal(0, 0.15, steps).cumsum() * 0.5
    speed = 1 + 0.6 * np.sin(2 * np.pi * (rng.uniform(0.3, 1.2) * time + rng.random()))
    speed *= length / speed.sum()
    x, y = (np.cumsum(speed * turn(heading)) for turn in (np.cos, np.sin))
    return to_srgb(convolved(to_light(pixels), path_kernel(x, y, np.ones(steps))))


def low_light(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Photograph in the dark at high gain: few electrons, noisy rows, and still too dark."""
    stops, white, read = _LOW[severity - 1]
    light = to_light(pixels) * np.float32(2**-stops)
    noise = _electron_noise(light, white, read, rng)
    rows = rng.standard_normal((light.shape[0], 1, 1), dtype=np.float32)
    return to_srgb(light + noise + rows * np.float32(0.15 * read / white))


def vignette(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Darken towards the corners by the cosine-fourth law, about a centre slightly off."""
    across, down = _from_centre(pixels.shape, rng.uniform(-0.1, 0.1, 2))
    tangent = 2 ** (_CORNER[severity - 1] / 2) - 1  # squared, at the corner
    falloff: Floats = (1 + np.float32(tangent) * (across**2 + down**2)) ** -2
    return to_srgb(to_light(pixels) * falloff[..., None])


def lens_flare(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Let a lamp near the edge shine into the lens: a veil, a glow, and ghosts of the aperture."""
    veil, source = _FLARE[severity - 1]
    angle, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.65, 0.85)
    place = np.array([math.sin(angle), math.cos(angle)]) * out
    across, down = _from_centre(pixels.shape, np.zeros(2))
    away = (across - np.float32(place[1])) ** 2 + (down - np.float32(place[0])) ** 2
    glow = np.float32(source) * (np.exp(away * -25) + np.float32(0.25) * np.exp(away * -3))
    flare = (glow + np.float32(veil))[..., None] * np.array([1, 0.96, 0.88], np.float32)
    for _ in range(4):
        along, radius = rng.uniform(-1.1, 0.6), rng.uniform(0.05, 0.2)
        off = np.hypot(across - place[1] * along, down - place[0] * along).astype(np.float32)
        disc = np.clip((radius - off) * 40, 0, 1) * np.float32(veil * 0.8)
        flare += disc[..., None] * rng.uniform(0.3, 1, 3).astype(np.float32)
    return to_srgb(to_light(pixels) + flare)


def _from_centre(shape: tuple[int, ...], off: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return columns ``(1, W)`` and rows ``(H, 1)``; from the centre to a corner it is 1."""
    height, width = shape[:2]
    corner = math.hypot(height, width) / 2
    down = ((np.arange(height) + 0.5 - height / 2) / corner - off[0]).astype(np.float32)
    across = ((np.arange(width) + 0.5 - width / 2) / corner - off[1]).astype(np.float32)
    return across[None], down[:, None]
