"""How familiar an embedding is: its angle to the nearest class, where classes are spread alike.

The score is the cosine between an embedding and the mean of the nearest class, both taken from the
mean of all classes, after the spread of images within their classes was divided out: the metric of
Mahalanobis (Lee et al., NeurIPS 2018, section 2.1) with the angle in place of the distance (within-
class covariance normalisation, Hatch et al., Interspeech 2006). An angle does not grow with the
contrast of a photo, as a distance does. ``edge_fgr_export.familiar_fit`` fits it; what it needs
stands beside the contract, at 8 bits a number: 0.34 MB for 81 classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_fgr.contract import build
from edge_fgr.errors import ContractError
from edge_fgr.packed import pack, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]

__all__ = ["FAMILIAR_KEY", "Familiar", "familiar_from_json", "familiar_to_json"]

FAMILIAR_KEY = "edge_fgr_familiar"
"""ONNX metadata key of the document."""

_SCHEMA = 1
_LENGTH = 8192
"""Embeddings are scaled to this length and rounded. A row of the basis is at most 2047 long: every
sum of their products stays below 2^24, exact in float32 in any order, on any machine."""
_LONGEST_ROW = 2047


@dataclass(frozen=True, slots=True)
class Familiar:
    """What the score needs. An embedding is scaled to length 1 first.

    Attributes:
        basis: float32 ``(B, D)`` of whole numbers -127 to 127; times ``scale``, its rows are about
            orthonormal and span all class means and their mean.
        scale: float64 ``(B,)``.
        whiten: float64 ``(B, R)``, from the basis to where classes are spread alike.
        centre: float64 ``(R,)``, the mean of the class means there.
        classes: float64 ``(C, R)``, directions of the classes from there, each of length 1.
        rest: by how much a square outside the basis counts there.
    """

    basis: Floats
    scale: Floats
    whiten: Floats
    centre: Floats
    classes: Floats
    rest: float

    def score(self, embedding: Floats) -> float:
        """Return the score of ``(D,)``, -1 to 1: higher is more familiar.

        Equal embeddings give scores that are equal to 9 digits on every machine.
        """
        return round(float((self.classes @ self.direction(embedding)).max()), 9)

    def direction(self, embedding: Floats) -> Floats:
        """Return where ``(D,)`` lies as seen from the centre: float64 ``(R,)``.

        Of length 1 at most: what lies outside the space shortens it.
        """
        import numpy as np

        exact = embedding.astype(np.float64)
        length = math.sqrt(float(exact @ exact)) or 1.0
        codes = np.rint(exact * (_LENGTH / length)).astype(np.float32)
        inside = (self.basis @ codes) * self.scale  # (B,)
        place = inside @ self.whiten - self.centre  # (R,)
        outside = max(0.0, 1.0 - float(inside @ inside))
        return place / (math.sqrt(float(place @ place) + self.rest * outside) or 1.0)


@dataclass(frozen=True, slots=True)
class _Document:
    schema: int
    basis: str
    scale: str
    whiten: str
    centre: str
    classes: str
    rest: float


def familiar_to_json(
    basis: Floats, whiten: Floats, centre: Floats, classes: Floats, rest: float
) -> str:
    """Return the document of an orthonormal ``basis`` and the rest as in ``Familiar``, rounded.

    The basis is rounded to 8 bits with a scale for each row, ``whiten`` and ``classes`` to 16.
    """
    import numpy as np

    highest = np.abs(basis).max(axis=1, keepdims=True)
    steps = 127.0
    codes = np.rint(basis / highest * steps)
    while (longest := float(np.sqrt((codes**2).sum(axis=1)).max())) > _LONGEST_ROW:
        steps = min(steps - 1, math.floor(steps * _LONGEST_ROW / longest))
        codes = np.rint(basis / highest * steps)
    document = {
        "schema": _SCHEMA,
        "basis": pack(codes, "i1"),
        "scale": pack(highest[:, 0] / steps / _LENGTH, "<f4"),
        "whiten": pack(whiten, "<f2"),
        "centre": pack(centre, "<f4"),
        "classes": pack(classes, "<f2"),
        "rest": float(np.float32(rest)),
    }
    return json.dumps(document, separators=(",", ":"))


def familiar_from_json(text: str) -> Familiar:
    """Read the document strictly.

    Raises:
        ContractError: it is no such document, or of a newer schema.
    """
    import numpy as np

    try:
        document: _Document = build(_Document, json.loads(text), "familiar")
        if document.schema != _SCHEMA:
            raise ContractError(f"familiar: schema must be {_SCHEMA}, not {document.schema}")
        codes, scale = unpack(document.basis, "i1"), unpack(document.scale, "<f4")
        whiten, centre = unpack(document.whiten, "<f2"), unpack(document.centre, "<f4")
        classes = unpack(document.classes, "<f2")
        basis = codes.reshape(len(scale), -1).astype(np.float32)
        whiten = whiten.reshape(len(scale), len(centre))
        classes = classes.reshape(-1, len(centre))
    except ValueError as error:
        raise ContractError(f"familiar: cannot be read ({error})") from None
    scale, whiten, centre, classes = (
        part.astype(np.float64) for part in (scale, whiten, centre, classes)
    )
    finite = all(np.isfinite(part).all() for part in (scale, whiten, centre, classes))
    if not (finite and math.isfinite(document.rest) and document.rest >= 0):
        raise ContractError("familiar: a number is not finite, or below 0 where it cannot be")
    return Familiar(basis, scale, whiten, centre, classes, document.rest)
