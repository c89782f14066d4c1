"""The same image with 1 and 2 threads, alone and in a batch of 8: the same INT8 logits?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_fgr.image import load
from edge_fgr.model import open_model

__all__ = ["same_bits"]


def same_bits(model: Path, photos: Sequence[Path]) -> dict[str, float]:
    """Compare the bytes of the logits over threads and batches; whole batches of 8 are used."""
    reference: list[bytes] = []
    identical = 0
    for threads in (1, 2):
        opened = open_model(model, device="cpu", threads=threads)
        pixels = np.stack([load(photo, opened.contract.geometry) for photo in photos])
        single = [opened.run(row[None])[0].tobytes() for row in pixels]
        batched = [
            row.tobytes()
            for start in range(0, len(pixels), 8)
            for row in opened.run(pixels[start : start + 8])
        ]
        reference = reference or single
        identical += sum(a == b == c for a, b, c in zip(reference, single, batched, strict=True))
    return {"images": len(photos), "comparisons": 2 * len(photos), "identical": identical}
