"""Decoded training pictures, kept in memory within a bound."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_fgr.contract import WHOLE, Geometry, box_of
from edge_fgr.image import read
from edge_fgr_train.dataset import Sample

__all__ = ["PictureCache", "cache_bytes"]

_MOST_BYTES = 4 << 30
_SHARE = 4
"""Pictures may take a quarter of the memory that is free at the start."""


def cache_bytes() -> int:
    """Return how many bytes may be kept: a quarter of the free memory, 4 GiB at most."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return _MOST_BYTES
    return min(_MOST_BYTES, free // _SHARE)


class PictureCache:
    """Pictures as the device would decode them, shrunk to what the largest crop needs.

    What does not fit any more is decoded anew each time. May be asked by several threads.

    Args:
        geometry: the device's; its region of interest is all that is kept of a picture.
        short_side: what the shorter side is shrunk to, in pixels.
        limit: bytes; None: ``cache_bytes``.
    """

    def __init__(self, geometry: Geometry, short_side: int, limit: int | None = None) -> None:
        self._geometry = replace(
            geometry, resize="short", size=short_side, short_side=short_side, scaled_decode=1.0
        )
        self._region = geometry.roi or WHOLE
        self._left = cache_bytes() if limit is None else limit
        self._pictures: dict[str, npt.NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def get(self, sample: Sample) -> Image.Image:
        """Return the picture, RGB.

        Raises:
            EdgeFgrError: the file cannot be read.
        """
        if (known := self._pictures.get(sample.name)) is not None:
            return Image.fromarray(known)
        picture = read(sample.path, self._geometry, roi=self._region)
        if self._region != WHOLE:
            left, top, right, bottom = map(round, box_of(picture.size, self._region))
            picture = picture.crop((left, top, max(left + 1, right), max(top + 1, bottom)))
        short = self._geometry.short_side
        if min(picture.size) > short:
            factor = short / min(picture.size)
            size = (round(picture.width * factor), round(picture.height * factor))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        with self._lock:
            if pixels.nbytes <= self._left and sample.name not in self._pictures:
                self._left -= pixels.nbytes
                self._pictures[sample.name] = pixels
        return picture
