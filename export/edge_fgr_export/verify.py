"""Two tables of logits of the same images: how often, and by how much, do they differ?

Pure numbers: no file is read here, so that ``export`` and ``verify`` judge by one rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from edge_fgr.errors import ModelError, UsageError

__all__ = ["UNKNOWN", "Flip", "Limits", "Verdict", "verdict_of"]

Floats = npt.NDArray[np.float32]

UNKNOWN = -1
"""In the place of the right class of an image where it is not known."""

_ROUNDING = 1e-9
"""In percent: 199 of 200 is not below 99.5."""


@dataclass(frozen=True, slots=True)
class Flip:
    """An image that got two labels.

    Attributes:
        row: which image.
        reference, candidate: the class that each side answers.
        reference_margin, candidate_margin: by how much its own answer leads the other side's, in
            its own logits; never below 0.
    """

    row: int
    reference: int
    candidate: int
    reference_margin: float
    candidate_margin: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reference against a candidate.

    Attributes:
        images: how many; at least one.
        same: images with one label from both.
        labelled: images whose right class is known; where there are none, the next five say
            nothing.
        reference_right, candidate_right: right labels among these.
        lost: only the reference was right.
        won: only the candidate was right.
        p: probability of a split of lost and won at least as uneven, were both models equally good,
            0 to 1: two-sided exact test of McNemar (1947).
        largest, mean: of the absolute differences of logits.
        relative_rms: root of their mean square, in units of the standard deviation of the
            reference's logits; None where those are all equal.
        flips: images with two labels, the largest margin of the reference first.
    """

    images: int
    same: int
    labelled: int
    reference_right: int
    candidate_right: int
    lost: int
    won: int
    p: float
    largest: float
    mean: float
    relative_rms: float | None
    flips: tuple[Flip, ...]

    @property
    def agreement(self) -> float:
        """Share of equal labels, 0 to 1."""
        return self.same / self.images

    @property
    def drop(self) -> float | None:
        """By how much the candidate's top-1 is lower, -1 to 1; None without right classes."""
        if not self.labelled:
            return None
        return (self.reference_right - self.candidate_right) / self.labelled


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of a candidate.

    Attributes:
        min_agreement: least share of equal labels in percent, 0 to 100; None asks nothing.
        max_drop: most that top-1 may fall, in points of a percentage, 0 to 100.

    Raises:
        UsageError: a number out of its range, or not a number.
    """

    min_agreement: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("min-agreement", self.min_agreement), ("max-drop", self.max_drop)):
            if value is not None and not 0 <= value <= 100:
                raise UsageError(f"--{name} {value}: a number from 0 to 100 is needed")

    def broken(self, verdict: Verdict) -> list[str]:
        """Return a sentence for each limit that does not hold.

        Raises:
            UsageError: a fall of top-1 is limited, and no right class is known.
        """
        self.check(verdict.labelled)
        found, percent = [], 100 * verdict.agreement
        if self.min_agreement is not None and percent < self.min_agreement - _ROUNDING:
            found.append(f"labels agree on {percent:.2f}%, less than {self.min_agreement:g}%")
        if self.max_drop is not None and verdict.drop is not None:
            points = 100 * verdict.drop
            if points > self.max_drop + _ROUNDING:
                found.append(f"top-1 falls by {points:.2f} points, more than {self.max_drop:g}")
        return found

    def check(self, labelled: int) -> None:
        """Raise UsageError if a fall of top-1 is limited, but ``labelled`` images are none."""
        if self.max_drop is not None and not labelled:
            raise UsageError("--max-drop: needs labelled images; give folders named as the classes")


def verdict_of(
    reference: Floats, candidate: Floats, targets: Sequence[int] | None = None
) -> Verdict:
    """Compare logits ``(N, C)`` of the same images, N at least 1.

    Args:
        reference: what is right to say.
        candidate: what is judged; column i means the same class as the reference's.
        targets: the right class of each image, ``UNKNOWN`` where it is not known; None: of all.

    Raises:
        ModelError: logits that are not finite, or tables of different shapes.
    """
    if reference.shape != candidate.shape:
        raise ModelError(f"logits {reference.shape} and {candidate.shape} cannot be compared")
    for side, logits in (("reference", reference), ("candidate", candidate)):
        strange = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if strange.size:
            raise ModelError(
                f"the {side} gives logits that are no finite numbers for {strange.size} of "
                f"{len(logits)} images"
            )
    count = len(reference)
    truth = np.full(count, UNKNOWN) if targets is None else np.asarray(targets)
    a, b = reference.argmax(axis=1), candidate.argmax(axis=1)
    right_a, right_b = a == truth, b == truth
    lost, won = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    difference = candidate.astype(np.float64) - reference
    spread = float(reference.std(dtype=np.float64))
    return Verdict(
        images=count,
        same=int((a == b).sum()),
        labelled=int((truth != UNKNOWN).sum()),
        reference_right=int(right_a.sum()),
        candidate_right=int(right_b.sum()),
        lost=lost,
        won=won,
        p=float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
        largest=float(np.abs(difference).max()),
        mean=float(np.abs(difference).mean()),
        relative_rms=float(np.sqrt((difference**2).mean())) / spread if spread else None,
        flips=_flips(reference, candidate),
    )


def _flips(reference: Floats, candidate: Floats) -> tuple[Flip, ...]:
    a, b = reference.argmax(axis=1), candidate.argmax(axis=1)
    rows = np.flatnonzero(a != b)
    first = reference[rows, a[rows]] - reference[rows, b[rows]]
    second = candidate[rows, b[rows]] - candidate[rows, a[rows]]
    columns = (rows, a[rows], b[rows], first, second)
    found = [Flip(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
    return tuple(sorted(found, key=lambda flip: (-flip.reference_margin, flip.row)))
