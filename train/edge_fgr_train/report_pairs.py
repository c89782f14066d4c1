"""The most frequent mistakes of a run, with pictures, and where a network saw reasons for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_fgr.contract import Geometry, Label
from edge_fgr.decision import probabilities
from edge_fgr.errors import EdgeFgrError
from edge_fgr.image import load
from edge_fgr.tint import scale_bar, tint
from edge_fgr_train.dataset import Sample
from edge_fgr_train.evidence import class_maps
from edge_fgr_train.network import Network
from edge_fgr_train.pages import data_uri

__all__ = ["add_maps", "frequent_pairs", "scale"]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.intp]

_PAIRS = 12
_TRIED = 5
"""Images of a pair that are tried, until one can be read."""

_THUMBNAIL = 192
"""Side in pixels."""


def frequent_pairs(
    judged: Sequence[Sample],
    known: Sequence[Sample],
    labels: Sequence[Label],
    truth: Ints,
    logits: Floats,
    temperature: float,
    geometry: Geometry,
) -> list[dict[str, Any]]:
    """Return the most frequent mistakes, each with a picture of it and of what it was taken for.

    Args:
        judged: images that were judged.
        known: images that were fitted.
        labels: class i of the logits.
        truth: classes of ``judged`` ``(N,)``.
        logits: of ``judged`` ``(N, C)``.
        temperature: their divisor before the softmax.
        geometry: how the network sees images.
    """
    values, answer = probabilities(logits, temperature), logits.argmax(1)
    of_class = np.bincount(truth, minlength=len(labels))
    wrong, times = np.unique(
        np.stack([truth, answer], 1)[truth != answer], axis=0, return_counts=True
    )
    found = [
        (-count, int(of_class[t]), t, p)
        for (t, p), count in zip(wrong.tolist(), times.tolist(), strict=True)
    ]
    pairs = []
    for count, of, t, p in sorted(found)[:_PAIRS]:  # of equal counts, the larger share first
        rows = np.flatnonzero((truth == t) & (answer == p))
        surest = rows[np.argsort(-values[rows, p], kind="stable")]
        learnt = [sample for sample in known if sample.label == labels[p]]
        middle = len(learnt) // 2
        pair = {
            "true": labels[t],
            "answer": labels[p],
            "classes": (p, t),
            "count": -count,
            "of": of,
            "sure": float(values[rows, p].mean()),
            "mistake": _picture([judged[i] for i in surest], geometry),
            "typical": _picture([*learnt[middle:], *learnt[:middle]], geometry),
            "maps": (),
        }
        pairs.append(pair)
    return pairs


def add_maps(pairs: Sequence[dict[str, Any]], network: Network) -> bool:
    """Add to each pair a map of the evidence for its answer, and one for the true class.

    Both are of the mistaken picture and have one scale, so that their colours compare.

    Returns:
        Whether there are any: pictures can be gone, and a network may tell no places apart.
    """
    shown = [pair for pair in pairs if pair["mistake"]]
    if not shown:
        return False
    pixels = np.stack([pair["mistake"]["pixels"] for pair in shown])
    both = np.stack(
        [class_maps(network, pixels, [p["classes"][side] for p in shown]) for side in (0, 1)], 1
    )  # (N, 2, h, w)
    if both[0, 0].size == 1:
        return False
    for pair, maps in zip(shown, both, strict=True):
        limit = float(np.abs(maps).max()) or 1.0
        photo = Image.fromarray(pair["mistake"]["pixels"])
        photo.thumbnail((_THUMBNAIL, _THUMBNAIL))
        pair["limit"] = limit
        pair["maps"] = [
            {
                "data": data_uri(np.asarray(tint(photo, values, limit)), _THUMBNAIL),
                "sum": float(values.mean()),
            }
            for values in maps
        ]
    return True


def scale() -> str:
    """Return the colours of the maps, from most against to most for, as a picture in a URI."""
    return data_uri(np.asarray(scale_bar(240, 16)), 240)


def _picture(samples: Sequence[Sample], geometry: Geometry) -> dict[str, Any] | None:
    """Return the first image that can be read, as the network sees it; None if there is none."""
    for sample in samples[:_TRIED]:
        try:
            pixels = load(sample.path, geometry)
        except EdgeFgrError:
            continue
        return {"data": data_uri(pixels, _THUMBNAIL), "name": sample.name, "pixels": pixels}
    return None
