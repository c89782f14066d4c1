"""From logits to probabilities, ranks and coarse classes. numpy only, no state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.contract import Label

    Floats = npt.NDArray[np.floating]

__all__ = ["best", "probabilities", "roll_up"]


def probabilities(logits: Floats, temperature: float = 1.0) -> Floats:
    """Softmax of ``logits / temperature`` over the last axis, in float64.

    The exponentials are computed by numpy on this machine: bits are promised for logits only.
    """
    import numpy as np

    scaled = logits.astype(np.float64) / temperature
    grown = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def best(values: Floats, count: int) -> list[int]:
    """Return the indices of the ``count`` largest of ``(C,)`` values; ties keep their order."""
    import numpy as np

    return [int(i) for i in np.argsort(-values, kind="stable")[:count]]


def roll_up(values: Floats, labels: Sequence[Label], depth: int) -> tuple[list[Label], Floats]:
    """Sum probabilities ``(..., C)`` over classes that share their first ``depth`` path elements.

    Returns:
        The coarse classes, sorted, and their sums ``(..., number of coarse classes)``.
    """
    import numpy as np

    coarse = sorted({label[:depth] for label in labels})
    place = {label: i for i, label in enumerate(coarse)}
    member = np.zeros((len(labels), len(coarse)))
    member[np.arange(len(labels)), [place[label[:depth]] for label in labels]] = 1
    return coarse, values @ member
