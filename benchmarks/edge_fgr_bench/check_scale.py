"""``edge-fgr data check`` on many thousands of small photos: wall time and peak memory."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edge_fgr.progress import progress
from edge_fgr_bench.cold import timed
from edge_fgr_bench.install import PHOTOS

__all__ = ["check_scale"]

_CLASSES = 100
_SPLITS = ("train", "train", "train", "val", "test")


def check_scale(counts: Sequence[int]) -> dict[str, float]:
    """Check folders of so many photos, 64 x 64 pixels each, in 100 classes and three splits.

    The photos are random cuts of the golden ones, so that hundreds of thousands of pairs are
    candidates for near-duplicates: more than real data of that size have.

    Returns:
        For each count seconds, images a second and peak MiB, by names like ``1000_seconds``.
    """
    found: dict[str, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), count)
            command = [sys.executable, "-m", "edge_fgr", "data", "check", folder, "--format=json"]
            seconds, memory = timed(command)
        found[f"{count}_seconds"] = seconds
        found[f"{count}_images_per_second"] = count / seconds
        found[f"{count}_peak_mib"] = memory / 1024
    return found


def _make(folder: Path, count: int) -> None:
    paths = sorted(PHOTOS.glob("*.jpg"))
    photos: list[Image.Image] = []
    for path in paths:
        with Image.open(path) as opened:
            photos.append(opened.convert("RGB"))
    random = np.random.default_rng(0)
    with progress(count, f"make {count}") as advance:
        for i in range(count):
            photo = photos[i % len(photos)]
            side = random.uniform(0.15, 0.9) * min(photo.size)
            left, top = random.uniform(0, 1, 2) * (np.array(photo.size) - side)
            box = (left, top, left + side, top + side)
            small = photo.resize((64, 64), Image.Resampling.BILINEAR, box=box)
            place = folder / _SPLITS[i // _CLASSES % len(_SPLITS)] / f"class {i % _CLASSES:02}"
            place.mkdir(parents=True, exist_ok=True)
            data = io.BytesIO()
            small.save(data, "JPEG", quality=85)
            (place / f"{i}.jpg").write_bytes(data.getvalue())
            advance(1, "")
