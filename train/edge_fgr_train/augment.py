"""Random changes of training pictures; every draw depends on (seed, epoch, image) alone.

So a run that was killed and resumed sees the same pictures as an undisturbed one, with any number
of loader threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, exp, log, sin, sqrt, tau

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr_train.dataset import Sample
from edge_fgr_train.pictures import PictureCache, cache_bytes
from edge_fgr_train.policies import change
from edge_fgr_train.settings_steps import Augment
from edge_fgr_train.weather import weathered

__all__ = ["TrainingSet", "seed_of", "size_at"]

Pixels = npt.NDArray[np.uint8]

_ENOUGH = 1.5
"""Crops of up to 4/9 of the area lose nothing in the cache; smaller ones are enlarged a little."""

_GRAY = 127
_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_STEP = 16
"""Sides of growing pictures are multiples of so many pixels."""


def seed_of(*parts: int) -> int:
    """Mix integers into one 63-bit seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def size_at(rules: Augment, epoch: int, epochs: int) -> int:
    """Return the side of the training input in an epoch (from 0) of so many."""
    if not rules.start_size:
        return rules.size
    grown = min(1.0, epoch / max(1.0, epochs * 2 / 3))
    exact = rules.start_size + (rules.size - rules.start_size) * grown
    return rules.size if grown == 1 else round(exact / _STEP) * _STEP


class TrainingSet:
    """Augmented pictures; may be asked by several threads.

    Args:
        samples, targets: files, and the class of each.
        rules: of the recipe.
        geometry: the device's.
        seed: of all draws.
        sharers: how many processes share the memory that pictures may take.

    Attributes:
        targets: the class of each.
        epoch: which draws are made.
        size: side of the pictures, in pixels.
        still: the device's own geometry, if pictures shall be as it sees them, but for a mirror.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        targets: Sequence[int],
        rules: Augment,
        geometry: Geometry,
        seed: int,
        sharers: int = 1,
    ) -> None:
        self._samples, self.targets, self._rules, self._seed = samples, targets, rules, seed
        short = rules.size if rules.crop == "shift" else round(rules.size * _ENOUGH)
        self._cache = PictureCache(geometry, short, cache_bytes() // sharers)
        self.epoch, self.size = 0, rules.size
        self.still: Geometry | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        """Draw the picture of this epoch: pixels ``(size, size, 3)``, and the class."""
        return self.draw(index)

    def draw(self, index: int, again: int = 0) -> tuple[Pixels, int]:
        """Draw the picture of this epoch; ``again`` counts the times that it was drawn before."""
        rules, sample = self._rules, self._samples[index]
        draws = np.random.default_rng([self._seed, self.epoch, index, *([again] if again else [])])
        if self.still is not None:
            pixels = load(sample.path, self.still)
            if draws.random() < rules.flip:
                pixels = pixels[:, ::-1]
            return np.ascontiguousarray(pixels), self.targets[index]
        whole = self._cache.get(sample)
        cut = self._shifted if rules.crop == "shift" else self._cut
        picture = cut(whole, draws)
        if rules.policy != "none":
            picture = change(picture, rules.policy, draws)
        if rules.jitter:
            picture = picture.convert("RGB", _colours(picture, rules.jitter, draws))
        pixels = np.asarray(picture)
        if draws.random() < rules.flip:
            pixels = pixels[:, ::-1]
        # Asked only where wanted: a draw more would change the pictures of all other recipes.
        if rules.flip_vertical and draws.random() < rules.flip_vertical:
            pixels = pixels[::-1]
        if draws.random() < rules.turn:
            pixels = np.rot90(pixels, int(draws.integers(1, 4)))
        pixels = np.array(pixels, order="C")  # its own memory, to be written to
        if rules.weather != "none" and draws.random() < rules.weathered:
            pixels = weathered(pixels, rules.weather, draws)
        if draws.random() < rules.erase:
            _erase(pixels, draws)
        return pixels, self.targets[index]

    def _cut(self, picture: Image.Image, draws: np.random.Generator) -> Image.Image:
        """Cut out a share of the area, 3:4 to 4:3 (Szegedy et al. 2015, section 6).

        With ``stretch`` that is in proportion to the picture's own sides.
        """
        width, height = picture.size
        shape = width / height if self._rules.crop == "stretch" else 1.0
        box = None
        for _ in range(10):
            area = width * height * draws.uniform(self._rules.crop_min, 1.0)
            ratio = shape * exp(draws.uniform(log(3 / 4), log(4 / 3)))
            w, h = round(sqrt(area * ratio)), round(sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(draws.integers(width - w + 1)), int(draws.integers(height - h + 1))
                box = (float(left), float(top), float(left + w), float(top + h))
                break
        if box is None:  # a strip: its middle; or the whole of it
            side = min(width, height)
            w, h = (width, height) if self._rules.crop == "stretch" else (side, side)
            left, top = (width - w) // 2, (height - h) // 2
            box = (float(left), float(top), float(left + w), float(top + h))
        return picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box)

    def _shifted(self, picture: Image.Image, draws: np.random.Generator) -> Image.Image:
        """Cut the middle out, a few pixels beside it."""
        size, padding = self._rules.size, self._rules.padding
        left, top = ((side - size) // 2 for side in picture.size)
        middle = picture.crop((left, top, left + size, top + size))
        wide = Image.new("RGB", (size + 2 * padding,) * 2, (_GRAY,) * 3)
        wide.paste(middle, (padding, padding))
        x, y = draws.integers(0, 2 * padding + 1, 2).tolist()
        return wide.crop((x, y, x + size, y + size))


def _colours(picture: Image.Image, jitter: float, draws: np.random.Generator) -> tuple[float, ...]:
    """Draw brightness, contrast, saturation and hue as one map of colours, 3 rows of 4 numbers.

    Hue turns the plane of I and Q, which leaves the brightness that people see.
    """
    brightness, contrast, saturation = draws.uniform(1 - jitter, 1 + jitter, 3)
    angle = tau * draws.uniform(-jitter / 10, jitter / 10)
    turn = np.array([[1, 0, 0], [0, cos(angle), -sin(angle)], [0, sin(angle), cos(angle)]])
    hue = _FROM_YIQ @ turn @ _TO_YIQ
    gray = np.broadcast_to(_LUMA, (3, 3))
    linear = hue @ (saturation * np.eye(3) + (1 - saturation) * gray) * (brightness * contrast)
    mean = float(np.asarray(picture)[::4, ::4].reshape(-1, 3).mean(0) @ _LUMA) * brightness
    offset = np.full((3, 1), (1 - contrast) * mean)
    return tuple(np.concatenate([linear, offset], 1).ravel().tolist())


def _erase(pixels: Pixels, draws: np.random.Generator) -> None:
    """Erase a rectangle of 2 to 20 % of the area, in place."""
    height, width = pixels.shape[:2]
    area = height * width * draws.uniform(0.02, 0.2)
    ratio = exp(draws.uniform(log(0.3), log(1 / 0.3)))
    h, w = round(sqrt(area * ratio)), round(sqrt(area / ratio))
    h, w = min(max(1, h), height - 1), min(max(1, w), width - 1)
    top, left = draws.integers(height - h + 1), draws.integers(width - w + 1)
    pixels[top : top + h, left : left + w] = _GRAY
