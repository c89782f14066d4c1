"""TrivialAugment, RandAugment and AugMix: drawn changes of a picture, by Pillow.

torchvision has them, but draws from torch's one global generator: pictures drawn by several threads
would depend on which came first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["augmix", "change"]

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

_GENTLE = {"rotate": 30.0, "shear": 0.3, "shift": 1 / 3, "posterise": 4.0}
"""The same of AugMix."""

_MIXED = (
    "autocontrast", "equalise", "rotate", "solarise", "posterise", "shear_x", "shear_y", "shift_x",
    "shift_y",
)  # fmt: skip
"""What AugMix draws from: nothing that is a corruption by itself, such as brightness or blur."""

_CHAINS, _LONGEST, _MILD = 3, 3, (0.01, 0.3)
"""AugMix: chains, changes of one at most, and the range of their strength."""

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


def augmix(picture: Image.Image, draws: np.random.Generator) -> Image.Image:
    """Mix the RGB picture with a mixture of three chains of mild changes.

    Hendrycks et al. 2020, "AugMix: A Simple Data Processing Method to Improve Robustness and
    Uncertainty", section 3 and algorithm 1: weights of the chains are Dirichlet(1), the share of
    the mixture is Beta(1, 1). Their loss of consistency between three mixtures (Jensen-Shannon) is
    left out: it takes three times the steps.
    """
    shares = draws.dirichlet(np.ones(_CHAINS))
    most = float(draws.beta(1, 1))
    total = (1 - most) * np.asarray(picture, np.float32)
    for share in shares.tolist():
        chained = picture
        for place in draws.integers(len(_MIXED), size=int(draws.integers(1, _LONGEST + 1))):
            chained = _changed(chained, _MIXED[place], draws.uniform(*_MILD), _GENTLE, draws)
        total += np.float32(most * share) * np.asarray(chained)
    return Image.fromarray(np.rint(total).clip(0, 255).astype(np.uint8))


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
