"""From logits to probabilities, ranks, coarse classes and verdicts. numpy only, no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.contract import Label

    Floats = npt.NDArray[np.floating]

__all__ = [
    "Level",
    "back_off",
    "best",
    "conformal_set",
    "levels",
    "probabilities",
    "roll_up",
    "unknown_score",
]


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


@dataclass(frozen=True, slots=True)
class Level:
    """The classes at one depth of the label paths.

    Attributes:
        labels: the names down to this depth.
        member: which class belongs to which: ``(C, len(labels))``; None where they are the same.
        least: probability from which a name of this depth is said.
    """

    labels: tuple[Label, ...]
    member: Floats | None
    least: float

    def best(self, values: Floats) -> tuple[Label, float]:
        """Return the best name for probabilities ``(C,)``, and its summed probability."""
        sums = values if self.member is None else values @ self.member
        top = int(sums.argmax())
        return self.labels[top], float(sums[top])


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


def unknown_score(logits: Floats, known: int | None = None) -> Floats:
    """Return how far the largest logit of ``(..., C)`` stands above their mean: ``(...)``, float64.

    Of ``known`` classes at most, if given, is the mean: enrolled ones that follow do not shift it.

    It ranks images as the largest softmax value does when the temperature grows without end, which
    Liang et al. (ICLR 2018) analyse as what makes a high temperature work. The sum is rounded once
    (``math.fsum``), so equal logits give equal bits in any batch and on every machine.
    """
    import numpy as np

    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    count = logits.shape[-1] if known is None else known
    scores = [max(row) - math.fsum(row[:count]) / count for row in rows]
    return np.array(scores, np.float64).reshape(logits.shape[:-1])


def conformal_set(values: Floats, quantile: float) -> list[int]:
    """Return the classes of probabilities ``(C,)`` with 1 - p at most ``quantile``, best first.

    Least ambiguous sets (Sadinle, Lei and Wasserman, JASA 2019). The best class always belongs:
    an empty set says nothing, and one class more can only raise the coverage.
    """
    order = best(values, len(values))
    return [i for place, i in enumerate(order) if place == 0 or 1 - values[i] <= quantile]


def levels(labels: Sequence[Label], thresholds: Sequence[float | None]) -> tuple[Level, ...]:
    """Return the levels that may answer, deepest first.

    Args:
        labels: a path per class. One that is deeper than there are thresholds counts as deepest.
        thresholds: for depth 1, 2 … the least sum of the best class there; None for a depth that
            gives no answers.
    """
    import numpy as np

    found = []
    for depth in range(max(map(len, labels)), 0, -1):
        least = thresholds[min(depth, len(thresholds)) - 1]
        if least is not None:
            coarse, member = roll_up(np.eye(len(labels)), labels, depth)
            same = tuple(coarse) == tuple(labels)
            found.append(Level(tuple(coarse), None if same else member, least))
    return tuple(found)


def back_off(
    values: Floats, labels: Sequence[Label], thresholds: Sequence[float | None]
) -> tuple[Label, float]:
    """Return the deepest class that is certain enough, and its summed probability.

    Args:
        values: probabilities ``(C,)``.
        labels: as ``levels`` takes them.
        thresholds: as ``levels`` takes them.

    Returns:
        The class as a path. The empty path, which holds everything and so has probability 1, when
        not even the coarsest name is certain enough.
    """
    for level in levels(labels, thresholds):
        label, share = level.best(values)
        if share >= level.least:
            return label, share
    return (), 1.0
