"""Pixels of image files in batches: for evaluation, ranges and comparisons alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr.parallel import ordered_map

__all__ = ["batches"]


def batches(
    paths: Sequence[Path], geometry: Geometry, size: int = 8
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield uint8 ``(n, H, W, 3)`` of the images, at most ``size`` at a time, decoded ahead."""
    waiting: list[npt.NDArray[np.uint8]] = []
    for pixels in ordered_map(lambda path: load(path, geometry), paths, 2):
        waiting.append(pixels)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
