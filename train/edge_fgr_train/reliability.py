"""Are probabilities what they say? Of the answers with a probability p, a share p should be right.

The reliability diagram of DeGroot and Fienberg (1983) over 15 bins of equal width, the expected
calibration error that it gives (Guo et al., ICML 2017, section 2), and Brier's score (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.decision import probabilities
from edge_fgr_train.temperature import fit_temperature

__all__ = ["BINS", "Bin", "Reliability", "brier", "crossed", "ece", "gaps", "reliability"]

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]

BINS = 15
"""Of equal width, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose answer has a probability from ``place / BINS`` up to the next bin.

    Attributes:
        images: at least one.
        right: as many of them.
        probability: the mean of their answers'.
    """

    place: int
    images: int
    right: int
    probability: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """What probabilities are worth.

    Attributes:
        bins: those that hold images, in order.
        ece: expected calibration error, 0 to 1.
        brier: mean squared distance from the truth over all classes, 0 to 2.
        right: share of right answers.
        said: mean probability of the answers.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    right: float
    said: float


def reliability(values: Floats, targets: Ints) -> Reliability:
    """Compare probabilities ``(N, C)`` with the classes ``(N,)``; N at least 1."""
    top = values.max(axis=1).astype(np.float64)
    right = values.argmax(axis=1) == targets
    places = _places(top)
    bins = [
        Bin(
            place=i,
            images=int((places == i).sum()),
            right=int(right[places == i].sum()),
            probability=float(top[places == i].mean()),
        )
        for i in np.unique(places).tolist()
    ]
    return Reliability(
        bins=tuple(bins),
        ece=ece(top, right),
        brier=brier(values, targets),
        right=float(right.mean()),
        said=float(top.mean()),
    )


def crossed(logits: Floats, targets: Sequence[int]) -> tuple[Doubles, tuple[float, float]]:
    """Return probabilities of each half by a temperature that was fitted on the other half.

    So no image is judged by a number that it had a part in. Halves are every second image: where
    images are sorted by class, as in a data set, both hold all classes.

    Args:
        logits: ``(N, C)``, N at least 2.
        targets: the right classes.

    Returns:
        Probabilities ``(N, C)``, and the temperatures of the even and of the odd rows.
    """
    values = np.empty(logits.shape, np.float64)
    temperatures = []
    for here in (0, 1):
        other = slice(1 - here, None, 2)
        temperature = fit_temperature(logits[other], targets[other])
        values[here::2] = probabilities(logits[here::2], temperature)
        temperatures.append(temperature)
    return values, (temperatures[0], temperatures[1])


def ece(values: Doubles, right: Bools) -> float:
    """Return the expected calibration error of probabilities of answers ``(N,)``, 0 to 1.

    Chance alone makes it larger than 0, the more so the fewer images there are.

    Args:
        values: ``(N,)``.
        right: whether the answer was, ``(N,)``.
    """
    return float(np.abs(gaps(values, right).sum(axis=0)).sum() / len(values))


def brier(values: Floats, targets: Ints) -> float:
    """Return the mean squared distance of ``(N, C)`` from the truth, 0 to 2 (Brier 1950)."""
    truth = np.eye(values.shape[1])[targets]
    return float(((values - truth) ** 2).sum(axis=1).mean())


def gaps(values: Doubles, right: Bools) -> Doubles:
    """Return by how much each answer beats its probability, in the column of its bin ``(N, 15)``.

    Args:
        values: ``(N,)``.
        right: ``(N,)``.
    """
    found: Doubles = np.eye(BINS)[_places(values)] * (right - values)[:, None]
    return found


def _places(values: Doubles) -> npt.NDArray[np.intp]:
    return np.minimum((values * BINS).astype(np.intp), BINS - 1)
