"""What a contract says about certainty: one frozen dataclass for each thing that was fitted.

``edge_fgr.decision`` applies the numbers, ``edge_fgr_export.confidence`` fits them, and
``docs/confidence.md`` says what each promises. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Literal

from edge_fgr.errors import ContractError

__all__ = ["BackOff", "Confidence", "Conformal", "Unknown"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """From which score on an image belongs to one of the classes.

    Attributes:
        score: how the score is computed: ``max_minus_mean`` from the logits
            (``edge_fgr.decision.unknown_score``), ``whitened_cosine`` from the embedding
            (``edge_fgr.familiar``). Higher is more familiar.
        threshold: an image is unknown when its score is below.
        share: at most this share of known images is called unknown, 0 to 1.
    """

    score: Literal["max_minus_mean", "whitened_cosine"]
    threshold: float
    share: float

    def __post_init__(self) -> None:
        if not isfinite(self.threshold):
            raise ContractError("confidence.unknown: threshold must be finite")
        _inside("confidence.unknown: share", [self.share])


@dataclass(frozen=True, slots=True)
class Conformal:
    """Sets of labels that hold the truth with a given coverage.

    Attributes:
        score: what the quantiles are of: ``lac`` is 1 - the probability of the class.
        quantiles: pairs of coverage and quantile, both rising. A class belongs to the set when
            its score is at most the quantile.
    """

    score: Literal["lac"]
    quantiles: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        where = "confidence.conformal"
        if not self.quantiles:
            raise ContractError(f"{where}: at least one quantile is needed")
        _inside(f"{where}: a coverage", [coverage for coverage, _ in self.quantiles])
        _shares(f"{where}: a quantile", [quantile for _, quantile in self.quantiles])
        for (low, small), (high, large) in pairwise(self.quantiles):
            if not (low < high and small <= large):
                raise ContractError(f"{where}: coverages and quantiles must rise")


@dataclass(frozen=True, slots=True)
class BackOff:
    """How certain each level of the label path must be before its name is said.

    Attributes:
        precision: share of right answers that is promised for each level, 0 to 1.
        certainty: how sure the promise of a level is, 0 to 1.
        thresholds: for depth 1, 2 … to the deepest, the least summed probability; None where the
            promise could not be shown.
    """

    precision: float
    certainty: float
    thresholds: tuple[float | None, ...]

    def __post_init__(self) -> None:
        where = "confidence.back_off"
        _inside(f"{where}: precision", [self.precision])
        _inside(f"{where}: certainty", [self.certainty])
        found = [threshold for threshold in self.thresholds if threshold is not None]
        if not found:
            raise ContractError(f"{where}: at least one threshold is needed")
        _shares(f"{where}: a threshold", found)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How logits become probabilities and verdicts; fitted on the exported graph itself.

    Attributes:
        temperature: divisor of the logits before the softmax.
        unknown: when an image belongs to no class; None where too few images were there.
        conformal: sets of labels with a given coverage; None where too few images were there.
        back_off: when to say a coarser name; None where no level can hold the promise.
        images: how many images all this was fitted on; 0 where nobody noted it.
        fitted_on: what they were to the run, such as ``calibration``.
    """

    temperature: float = 1.0
    unknown: Unknown | None = None
    conformal: Conformal | None = None
    back_off: BackOff | None = None
    images: int = 0
    fitted_on: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise ContractError("confidence: temperature must be above 0")
        if self.images < 0:
            raise ContractError("confidence: images must be at least 0")
        fitted = (self.unknown, self.conformal, self.back_off)
        if any(part is not None for part in fitted) and not (self.images and self.fitted_on):
            raise ContractError("confidence: images and fitted_on must say what it was fitted on")


def _inside(what: str, values: Iterable[float]) -> None:
    """Raise ContractError unless all values are above 0 and below 1."""
    if not all(0 < value < 1 for value in values):
        raise ContractError(f"{what} must be above 0 and below 1")


def _shares(what: str, values: Iterable[float]) -> None:
    """Raise ContractError unless all values are within 0 to 1."""
    if not all(0 <= value <= 1 for value in values):
        raise ContractError(f"{what} must be within 0 to 1")
