"""Pictures that no classifier should be asked about: frozen, black, saturated or blurred.

Black and blurred are judged on the luma of what the network sees, its short side reduced to 256
pixels, so that limits mean the same for every camera. Saturated and frozen are judged on single
pixels, never averaged: sensor noise, which tells a still scene from a stuck camera, would average
out.

Blur is the measure of Crété, Dolmiere, Ladret and Nicolas ("The blur effect", SPIE 6492, 2007):
the picture is blurred once more, and the share of its variation between neighbours that survives
says how blurred it was. It is relative to the picture's own variation, whatever the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from edge_fgr.contract import box_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from edge_fgr.contract import Roi

    Bytes: TypeAlias = npt.NDArray[np.uint8]

__all__ = ["Fault", "Inspector", "Limits", "Quality", "blur_of"]

Fault = Literal["frozen", "black", "saturated", "blurred"]

_SIDE = 256
_GRID = (160, 120)
_WINDOW = 9  # of the second blur, in pixels: section 2 of the paper


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a picture is at fault; measured in docs/watch.md.

    Attributes:
        black: the 99th percentile of luma (0 to 255) at or below which nothing is to be seen.
        saturated: the share (0 to 1) of pixels with a channel of 250 or more from which on colours
            and details are lost.
        blurred: the blur (0 sharp, 1 no detail) from which on details are lost.
        still: mean absolute difference of single pixels (0 to 255) below which two frames are the
            same picture: less than the noise of any sensor.
        still_frames: so many frames in a row that are the same picture,
        still_seconds: over at least so long, are frozen.
    """

    black: float = 32.0
    saturated: float = 0.8
    blurred: float = 0.72
    still: float = 0.01
    still_frames: int = 5
    still_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured on one picture.

    Attributes:
        fault: the first that applies of frozen, black, saturated and blurred; None for a good one.
        reason: in words, with the figure and its limit; empty for a good one.
        brightness: 99th percentile of luma, 0 to 255.
        saturated: share of pixels with a channel of 250 or more.
        blur: 0 sharp to 1 no detail.
        change: mean absolute difference to the frame that the present still began with, 0 to 255;
            None for a first frame and for pictures that do not follow each other.
    """

    fault: Fault | None
    reason: str
    brightness: float
    saturated: float
    blur: float
    change: float | None

    def as_record(self) -> Mapping[str, object]:
        """Return what a JSON record says of it."""
        return {
            "fault": self.fault,
            "reason": self.reason,
            "brightness": round(self.brightness, 1),
            "saturated": round(self.saturated, 4),
            "blur": round(self.blur, 4),
            "change": None if self.change is None else round(self.change, 4),
        }


class Inspector:
    """Judges pictures one after another. Holds the frame that a still began with: one a camera.

    Args:
        limits: from where on a picture is at fault.
        region: the region of interest, as shares of the picture; None for all of it.
    """

    def __init__(self, limits: Limits | None = None, region: Roi | None = None) -> None:
        self._limits = limits or Limits()
        self._region = region
        self._first: npt.NDArray[np.int16] | None = None
        self._since = 0.0
        self._count = 0

    def forget(self) -> None:
        """Begin anew, as after a camera came back."""
        self._first = None

    def inspect(self, picture: Image.Image, moment: float | None = None) -> Quality:
        """Judge one upright RGB picture.

        Args:
            picture: decoded, of any size.
            moment: seconds on any clock, for frames that follow each other; None for pictures that
                do not, which are never called frozen.
        """
        import numpy as np

        luma = _luma(picture, self._region)
        rank = int(0.99 * luma.size)
        brightness = float(np.partition(luma, rank, axis=None)[rank])
        pixels = _samples(picture, self._region)
        red, green, blue = np.moveaxis(pixels >= 250, 2, 0)
        saturated = float(np.mean(red | green | blue))
        blur = blur_of(luma)
        change = None if moment is None else self._change(pixels, moment)
        fault, reason = self._judge(brightness, saturated, blur)
        if moment is not None and change is not None:
            seconds = moment - self._since
            limits = self._limits
            if self._count >= limits.still_frames and seconds >= limits.still_seconds:
                fault = "frozen"
                reason = f"the same picture for {self._count} frames, {seconds:.1f} s"
        return Quality(fault, reason, brightness, saturated, blur, change)

    def _judge(self, brightness: float, saturated: float, blur: float) -> tuple[Fault | None, str]:
        limits = self._limits
        if brightness <= limits.black:
            return "black", f"99 % of it is darker than {brightness:.0f} of 255"
        if saturated >= limits.saturated:
            return "saturated", f"{saturated:.0%} of it is brighter than the camera can tell"
        if blur >= limits.blurred:
            return "blurred", f"blur {blur:.2f}, limit {limits.blurred:.2f}"
        return None, ""

    def _change(self, pixels: Bytes, moment: float) -> float | None:
        import numpy as np

        values = pixels.astype(np.int16)
        if self._first is None:
            change = None
        else:
            change = float(np.abs(values - self._first).mean())
            if change < self._limits.still:
                self._count += 1
                return change
        self._first, self._since, self._count = values, moment, 1
        return change


def blur_of(luma: Bytes) -> float:
    """Return how blurred a picture is: 0 sharp, 1 no detail at all. Exact integers: no rounding.

    Args:
        luma: uint8 ``(H, W)``, each at least 11; by convention a short side of 256.
    """
    import numpy as np

    worst = 0.0
    edge = _WINDOW // 2
    for values in (luma, luma.T):
        whole = np.ascontiguousarray(values, dtype=np.int32)
        sums = np.cumsum(whole, axis=0)
        own = np.abs(np.diff(whole[edge + 1 : -edge], axis=0)) * _WINDOW
        left = np.abs(np.diff(sums[_WINDOW:] - sums[:-_WINDOW], axis=0))
        total = int(own.sum())
        lost = int(np.maximum(own - left, 0).sum())
        worst = max(worst, 1.0 - lost / total if total else 1.0)
    return worst


def _samples(picture: Image.Image, region: Roi | None) -> Bytes:
    """Return single pixels on a grid, uint8 ``(120, 160, 3)``."""
    import numpy as np
    from PIL import Image

    return np.asarray(
        picture.resize(_GRID, Image.Resampling.NEAREST, box=box_of(picture.size, region))
    )


def _luma(picture: Image.Image, region: Roi | None) -> Bytes:
    """Return uint8 luma of the region, its short side ``_SIDE`` pixels."""
    import numpy as np
    from PIL import Image

    box = box_of(picture.size, region)
    wide, high = box[2] - box[0], box[3] - box[1]
    scale = _SIDE / min(wide, high)
    # A ribbon would become huge: the longer side stops at eight times the shorter.
    size = (min(round(wide * scale), 8 * _SIDE), min(round(high * scale), 8 * _SIDE))
    kernel = Image.Resampling.BILINEAR
    return np.asarray(picture.resize(size, kernel, box=box, reducing_gap=2.0).convert("L"))
