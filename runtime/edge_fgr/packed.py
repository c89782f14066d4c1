"""Arrays as text inside JSON documents: base64 of their little-endian bytes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[Any]

__all__ = ["Kind", "pack", "unpack"]

Kind = Literal["i1", "<f2", "<f4"]


def pack(values: Numbers, kind: Kind) -> str:
    """Return the values, converted to ``kind``, as text; their shape is not in it."""
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def unpack(text: str, kind: Kind) -> Numbers:
    """Return the values of a text, in one dimension; read-only.

    Raises:
        ValueError: it is no such text.
    """
    import numpy as np

    return np.frombuffer(base64.b64decode(text, validate=True), kind)
