"""From logits to probabilities, ranks, coarse classes and verdicts. numpy only, no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.contract import Label

    Floats = npt.NDArray[np.floating]

__all__ = ["back_off", "best", "conformal_set", "probabilities", "roll_up", "unknown_score"]


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


def back_off(
    values: Floats, labels: Sequence[Label], thresholds: Sequence[float | None]
) -> tuple[Label, float]:
    """Return the deepest class that is certain enough, and its summed probability.

    Args:
        values: probabilities ``(C,)``.
        labels: a path per class.
        thresholds: for depth 1, 2 … the least sum of the best class there; None for a depth that
            gives no answers.

    Returns:
        The class as a path. The empty path, which holds everything and so has probability 1, when
        not even the coarsest name is certain enough.
    """
    for depth in range(len(thresholds), 0, -1):
        threshold = thresholds[depth - 1]
        if threshold is None:
            continue
        coarse, sums = roll_up(values, labels, depth)
        (top,) = best(sums, 1)
        if sums[top] >= threshold:
            return coarse[top], float(sums[top])
    return (), 1.0
