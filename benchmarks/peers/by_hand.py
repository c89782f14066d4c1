"""From file to pixels as one writes it by hand: Pillow, all of the JPEG decoded, one resample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    import numpy.typing as npt
    from harness import Spec

__all__ = ["pixels"]


def pixels(path: str, spec: Spec) -> npt.NDArray[np.uint8]:
    """Return uint8 ``(size, size, 3)``, RGB, of an image file."""
    with Image.open(path) as photo:
        if spec.exif == "upright":
            ImageOps.exif_transpose(photo, in_place=True)
        rgb = photo.convert("RGB")
    width, height = rgb.size
    left, top, right, bottom = spec.roi or (0.0, 0.0, 1.0, 1.0)
    left, right, top, bottom = left * width, right * width, top * height, bottom * height
    if spec.resize == "short":
        side = min(right - left, bottom - top) * spec.size / spec.short_side
        left, top = (left + right - side) / 2, (top + bottom - side) / 2
        right, bottom = left + side, top + side
    kernel = Image.Resampling[spec.kernel.upper()]
    square = (spec.size, spec.size)
    return np.asarray(rgb.resize(square, kernel, box=(left, top, right, bottom)))
