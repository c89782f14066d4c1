"""The linear head of a model, for what needs its weights: evidence maps and enrolled classes.

A session gives no weights away, so the exporter writes the head once more beside the contract, at 8
bits a weight: 0.1 MB for 81 classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_fgr.contract import build
from edge_fgr.errors import ContractError
from edge_fgr.packed import pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["HEAD_KEY", "Head", "head_from_json", "head_to_json"]

HEAD_KEY = "edge_fgr_head"
"""ONNX metadata key of the document."""

_SCHEMA, _TILED = 1, 2
"""2 says that the embedding is that of one tile of several; without tiles 1 is written."""

_MOST_TILES = 8


@dataclass(frozen=True, slots=True)
class Head:
    """``logits = embedding @ weight.T + bias``, the embedding scaled to length 1 first if ``l2``.

    Attributes:
        weight: float32 ``(C, D)``.
        bias: float32 ``(C,)``.
        l2: whether the embedding is scaled to length 1.
        tiles: along each side of the picture; the embedding is that of one of them.
    """

    weight: Floats
    bias: Floats
    l2: bool
    tiles: int = 1

    def places(self, embedding: Floats, features: Floats) -> Floats:
        """Return features ``(D, h, w)`` whose mean is the embedding ``(D,)``, if features have one.

        With tiles those of all but one are nothing: the one whose mean is nearest to the embedding.
        """
        import numpy as np

        if self.tiles == 1:
            return features
        tiles = self.tiles
        depth, height, width = features.shape
        if height % tiles or width % tiles or embedding.shape != (depth,):
            return features
        grid = features.reshape(depth, tiles, height // tiles, tiles, width // tiles)
        off = grid.mean((2, 4), dtype=np.float64) - embedding[:, None, None]
        row, column = divmod(int((off**2).sum(0).argmin()), tiles)
        alone = np.zeros_like(grid)
        alone[:, row, :, column] = grid[:, row, :, column] * np.float32(tiles * tiles)
        return alone.reshape(features.shape)


@dataclass(frozen=True, slots=True)
class _Document:
    schema: int
    l2: bool
    weight: str
    scale: str
    bias: str
    tiles: int = 1


def head_to_json(head: Head) -> str:
    """Return the document; weights are rounded to 8 bits with one scale for each class.

    Each class takes the scale that rounds it least: weights that already are 8-bit numbers times
    a scale stay what they are.
    """
    import numpy as np

    highest = np.abs(head.weight).max(axis=1)
    highest[highest == 0] = 1
    scale = np.full(len(highest), np.nan, np.float32)
    least = np.full(len(highest), np.inf)
    for steps in range(127, 31, -1):
        tried = (highest / steps).astype(np.float32)
        inside = head.weight / tried[:, None]
        error = (np.abs(inside - np.rint(inside)) * tried[:, None]).max(axis=1)
        better = error < 0.9 * least
        scale[better], least[better] = tried[better], error[better]
    codes = np.rint(head.weight / scale[:, None])
    document = {
        "schema": _TILED if head.tiles > 1 else _SCHEMA,
        "l2": head.l2,
        "weight": pack(codes, "i1"),
        "scale": pack(scale, "<f4"),
        "bias": pack(head.bias, "<f4"),
    }
    if head.tiles > 1:
        document["tiles"] = head.tiles
    return json.dumps(document, separators=(",", ":"))


def head_from_json(text: str) -> Head:
    """Read the document strictly.

    Raises:
        ContractError: it is no such document, or of a newer schema.
    """
    import numpy as np

    try:
        document: _Document = build(_Document, json.loads(text), "head")
        if document.schema not in (_SCHEMA, _TILED):
            raise ContractError(f"head: schema must be {_SCHEMA}, not {document.schema}")
        if not 1 <= document.tiles <= _MOST_TILES or (document.tiles > 1) != (
            document.schema == _TILED
        ):
            raise ContractError(f"head: {document.tiles} tiles in schema {document.schema}")
        codes, scale = unpack(document.weight, "i1"), unpack(document.scale, "<f4")
        bias = unpack(document.bias, "<f4")
        weight = codes.reshape(len(scale), -1) * scale[:, None].astype(np.float32)
    except ValueError as error:
        raise ContractError(f"head: cannot be read ({error})") from None
    if bias.shape != scale.shape or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ContractError("head: weights and bias do not fit together, or are not finite")
    return Head(weight, bias.astype(np.float32), document.l2, document.tiles)
