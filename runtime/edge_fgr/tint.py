"""Signed values over a photograph: the photograph gives the lightness, the values the colour.

In OKLab (Ottosson, "A perceptual color space for image processing", 2020) equal steps look equal.
So chroma grows in proportion to the value, and every detail of the photograph stays visible. Orange
is for, blue is against: the pair that red-green blindness tells apart. A white line at half of the
limit says the same to those who see no colour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image, ImageFont

    Floats = npt.NDArray[np.float32]

__all__ = ["panel", "scale_bar", "tint"]

_FOR, _AGAINST = math.radians(55), math.radians(255)
"""Hues of OKLab: orange and blue."""

_CHROMA = 0.17
"""At the limit: about the most that sRGB holds in both hues at the lightness below."""

_DARKEST, _LIGHTEST = 0.3, 0.8
"""Lightness of black and of white: nearer to either end sRGB has no room for chroma."""

_LINE = 0.5
"""The line runs where the value is this share of the limit."""

_TO_LMS = (
    (0.3963377774, 0.2158037573),
    (-0.1055613458, -0.0638541728),
    (-0.0894841775, -1.291485548),
)
_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.707614701),
)


def tint(photo: Image.Image, values: Floats, limit: float) -> Image.Image:
    """Lay values over a photograph.

    Args:
        photo: 8-bit.
        values: ``(h, w)``, coarse as a rule; they are enlarged to the photograph (bicubic).
        limit: the value of full colour, above 0.

    Returns:
        8-bit RGB of the photograph's size.
    """
    import numpy as np
    from PIL import Image, ImageFilter

    grid = Image.fromarray(np.asarray(values / limit, np.float32))
    share = np.asarray(grid.resize(photo.size, Image.Resampling.BICUBIC)).clip(-1, 1)
    coloured = Image.fromarray(_coloured(np.asarray(photo.convert("L")), share))
    inside = Image.fromarray(np.where(share > _LINE, 255, 0).astype(np.uint8))
    around = np.asarray(inside.filter(ImageFilter.MaxFilter(5))) - np.asarray(inside)
    coloured.paste("white", mask=Image.fromarray(around))
    return coloured


def scale_bar(width: int, height: int) -> Image.Image:
    """Return the colours from minus to plus the limit, left to right, on middle grey."""
    import numpy as np
    from PIL import Image

    share = np.linspace(-1, 1, width, dtype=np.float32)
    grey = np.full((height, width), 150, np.uint8)
    return Image.fromarray(_coloured(grey, np.broadcast_to(share, grey.shape)))


def panel(picture: Image.Image, title: str, note: str, limit: float | None = None) -> Image.Image:
    """Return a picture between its title and, below, its scale and a note."""
    from PIL import Image, ImageDraw

    width, height = picture.size
    line = max(14, width // 20)
    page = Image.new("RGB", (width, height + 3 * line), "white")
    page.paste(picture, (0, line))
    draw = ImageDraw.Draw(page)
    small = _font(line * 0.55)
    middle = width // 2
    large = _font(line * 0.7)
    if large.getlength(title) > width:
        large = small
    draw.text((middle, line // 2), _fitted(title, large, width), "black", large, "mm")
    below = height + line
    if limit is not None:
        long = width // 2
        page.paste(scale_bar(long, line // 2), ((width - long) // 2, below + line // 4))
        level = below + line // 2
        draw.text((middle - long // 2 - 6, level), f"{-limit:.1f}", "black", small, "rm")
        draw.text((middle + long // 2 + 6, level), f"{limit:+.1f} logits", "black", small, "lm")
    draw.text((middle, below + line * 3 // 2), _fitted(note, small, width), "black", small, "mm")
    return page


def _coloured(grey: npt.NDArray[np.uint8], share: Floats) -> npt.NDArray[np.uint8]:
    """Return sRGB ``(H, W, 3)`` of lightness ``(H, W)`` and signed shares -1 to 1 of chroma."""
    import numpy as np

    steps = np.arange(256) / 255
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    lightness = (_DARKEST + (_LIGHTEST - _DARKEST) * np.cbrt(linear)).astype(np.float32)[grey]
    chroma = _CHROMA * np.abs(share)
    a = chroma * np.where(share > 0, np.float32(math.cos(_FOR)), np.float32(math.cos(_AGAINST)))
    b = chroma * np.where(share > 0, np.float32(math.sin(_FOR)), np.float32(math.sin(_AGAINST)))
    lms = [(lightness + of_a * a + of_b * b) ** 3 for of_a, of_b in _TO_LMS]
    light = [sum(part * cone for part, cone in zip(row, lms, strict=True)) for row in _TO_RGB]
    rgb = np.stack(light, axis=-1).clip(0, 1)
    sent = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    codes: npt.NDArray[np.uint8] = np.rint(sent * 255).astype(np.uint8)
    return codes


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return text that is not wider than ``width``, cut where it must be."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
