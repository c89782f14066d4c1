"""TrivialAugment and RandAugment: drawn changes of a picture, by Pillow.

torchvision has both, but draws from torch's one global generator: pictures drawn by several threads
would depend on which came first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["change"]

_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
_KINDS = (
    "identity", "autocontrast", "equalise", "rotate", "solarise", "posterise", "shear_x", "shear_y",
    "shift_x", "shift_y", *_ENHANCERS,
)  # fmt: skip
_WIDEST = {"rotate": 135.0, "shear": 0.99, "shift": 0.145, "enhance": 0.99, "posterise": 6.0}
"""At full strength, of TrivialAugment's wide space (32 of 224 pixels are shifted)."""

_USUAL = {"rotate": 30.0, "shear": 0.3, "shift": 0.453, "enhance": 0.9, "posterise": 4.0}
"""The same of RandAugment."""

_RAND = (2, 9 / 30)
"""RandAugment: how many changes, and their strength."""

_GRAY = (127, 127, 127)


def change(
    picture: Image.Image, policy: Literal["trivial", "rand"], draws: np.random.Generator
) -> Image.Image:
    """Return the RGB picture changed as the policy draws it."""
    if policy == "trivial":
        kind = _KINDS[draws.integers(len(_KINDS))]
        return _changed(picture, kind, float(draws.integers(31)) / 30, _WIDEST, draws)
    count, strength = _RAND
    for place in draws.integers(len(_KINDS), size=count):
        picture = _changed(picture, _KINDS[place], strength, _USUAL, draws)
    return picture


def _changed(
    picture: Image.Image,
    kind: str,
    strength: float,
    most: dict[str, float],
    draws: np.random.Generator,
) -> Image.Image:
    """Return the picture after one change of ``strength`` 0 to 1, in a direction that is drawn."""
    sign = 1.0 if draws.random() < 0.5 else -1.0
    if kind == "identity":
        return picture
    if kind == "autocontrast":
        return ImageOps.autocontrast(picture)
    if kind == "equalise":
        return ImageOps.equalize(picture)
    if kind == "solarise":
        return ImageOps.solarize(picture, round(256 * (1 - strength)))
    if kind == "posterise":
        return ImageOps.posterize(picture, 8 - round(most["posterise"] * strength))
    if kind in _ENHANCERS:
        factor = 1 + sign * most["enhance"] * strength
        return _ENHANCERS[kind](picture).enhance(factor)
    smooth = Image.Resampling.BILINEAR
    if kind == "rotate":
        return picture.rotate(sign * most["rotate"] * strength, smooth, fillcolor=_GRAY)
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    slope, way = sign * most["shear"] * strength, sign * most["shift"] * strength
    if kind == "shear_x":
        b, c = slope, -slope * picture.height / 2
    elif kind == "shear_y":
        d, f = slope, -slope * picture.width / 2
    elif kind == "shift_x":
        c = way * picture.width
    else:
        f = way * picture.height
    coefficients = (a, b, c, d, e, f)
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, smooth, fillcolor=_GRAY
    )
