"""What is kept of a picture to find its near-duplicates: some 300 bytes.

- the SHA-256 of the file, to find identical bytes;
- the perceptual hash of its low DCT frequencies (imagehash.phash), 64 bits, to find candidates;
- its detail, to judge them: a 16 x 16 gray thumbnail, each cell less the mean of the 3 x 3 around
  it, so that light and background have no say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_fgr.contract import Geometry
from edge_fgr.decode import read_bytes
from edge_fgr.errors import EdgeFgrError
from edge_fgr.image import read
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import progress
from edge_fgr_train.dataset import Sample

__all__ = ["Ints", "Prints", "prints_of"]

Ints: TypeAlias = npt.NDArray[np.int64]

_GEOMETRY = Geometry(size=64)
_SIDE = 16
_FLAT = 0.25
"""Detail with a smaller standard deviation, in gray levels, is rounding: nothing can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """Row i belongs to ``samples[i]`` of N; zero where a file could not be read.

    Attributes:
        hashes: uint64 ``(N,)``, perceptual hashes.
        details: int8 ``(N, 256)``, each scaled to its largest value; zero for a flat picture.
        contents: int64 ``(N,)``; equal numbers mean identical bytes.
        failures: by row, why a file could not be read.
    """

    hashes: npt.NDArray[np.uint64]
    details: npt.NDArray[np.int8]
    contents: Ints
    failures: dict[int, EdgeFgrError]


def prints_of(samples: Sequence[Sample]) -> Prints:
    """Read every file once, on all processors; no decoded picture outlives its turn."""
    count = len(samples)
    prints = Prints(
        np.zeros(count, np.uint64),
        np.zeros((count, _SIDE * _SIDE), np.int8),
        -1 - np.arange(count),
        {},
    )
    first: dict[bytes, int] = {}
    with progress(count, "read") as advance:
        paths = (sample.path for sample in samples)
        for i, found in enumerate(ordered_map(_print_of, paths, cores())):
            if isinstance(found, EdgeFgrError):
                prints.failures[i] = found
            else:
                digest, prints.hashes[i], prints.details[i] = found
                prints.contents[i] = first.setdefault(digest, i)
            advance(1, "")
    return prints


def _print_of(path: Path) -> tuple[bytes, int, npt.NDArray[np.int8]] | EdgeFgrError:
    try:
        data = read_bytes(path)
        gray = read(data, _GEOMETRY, name=str(path)).convert("L")
    except EdgeFgrError as error:
        return error
    bits = np.packbits(imagehash.phash(gray).hash.reshape(-1))
    return hashlib.sha256(data).digest(), int.from_bytes(bits.tobytes(), "big"), _detail(gray)


def _detail(gray: Image.Image) -> npt.NDArray[np.int8]:
    small = gray.convert("F").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    cells = np.pad(np.asarray(small, np.float64), 1, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(cells, (3, 3)).mean((2, 3))
    detail = cells[1:-1, 1:-1] - around
    detail -= detail.mean()
    if detail.std() < _FLAT:
        return np.zeros(_SIDE * _SIDE, np.int8)
    scaled: npt.NDArray[np.float64] = np.rint(detail * (127 / np.abs(detail).max()))
    return scaled.reshape(-1).astype(np.int8)
