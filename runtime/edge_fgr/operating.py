"""Where a line accepts a part: one class, and the probability that it needs.

``edge_fgr.verdict`` obeys it, ``edge_fgr_export.operating_points`` chooses it, and
``docs/evaluate.md`` says what it promises. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_fgr.errors import ContractError

__all__ = ["OperatingPoint"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """An image is accepted as ``label`` when the probability of that class reaches ``threshold``.

    Attributes:
        label: the accepted class, one of the model's.
        threshold: least probability, at the contract's temperature, above 0 and at most 1.
        max_false_reject: most of the images of ``label`` that were allowed to be rejected, above 0
            and below 1.
        accepted, rejected: images of ``label`` that it was chosen on, by what became of them;
            ``rejected`` holds those that the model calls unknown.
        missed, found: images of all other classes, likewise: accepted, and rejected.
    """

    label: tuple[str, ...]
    threshold: float
    max_false_reject: float
    accepted: int
    rejected: int
    missed: int
    found: int

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ContractError("operating: threshold must be above 0 and at most 1")
        if not 0 < self.max_false_reject < 1:
            raise ContractError("operating: max_false_reject must be above 0 and below 1")
        if min(self.accepted, self.rejected, self.missed, self.found) < 0:
            raise ContractError("operating: counts of images must be at least 0")
