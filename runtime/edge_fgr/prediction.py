"""What a classification answers. Frozen values, standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr.contract import Label

__all__ = [
    "Gate",
    "LabelSet",
    "ModelId",
    "Prediction",
    "Ranked",
    "Timings",
    "UnknownScore",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One class and its probability (0 to 1)."""

    label: Label
    probability: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of wall time. ``total`` may exceed the sum: it is measured around both."""

    decode: float
    infer: float
    total: float


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model answered. ``digest`` is the SHA-256 of the file, in hexadecimal."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about the image, and why.

    Attributes:
        kind: ``class`` says a whole label, ``coarse`` the beginning of one, because the end is not
            certain enough; ``unknown`` says that the image belongs to no class, ``uncertain`` that
            not even the first name of a label is certain enough. Where the model has an operating
            point, ``class`` says that the image is accepted, and ``rejected`` that it is not.
        label: the label or its beginning; when rejected, the best of the other classes, however
            certain; empty when unknown or uncertain.
        probability: of ``label``, summed over all classes under it; where none is said, that of the
            best class.
        reason: one plain sentence with the numbers in it.
    """

    kind: Literal["class", "coarse", "unknown", "uncertain", "rejected"]
    label: Label
    probability: float
    reason: str


@dataclass(frozen=True, slots=True)
class UnknownScore:
    """How familiar the image is: unknown when ``score`` is below ``threshold``."""

    score: float
    threshold: float
    method: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What the model's operating point makes of the image.

    Attributes:
        label: the class that is accepted.
        accepted: whether the image is: its probability reaches the threshold, and it is not
            unknown.
        probability: of ``label``.
        threshold: least probability to be accepted.
    """

    label: Label
    accepted: bool
    probability: float
    threshold: float


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels that hold the truth with the coverage asked for, best first, and why these."""

    coverage: float
    labels: tuple[Label, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image.

    Attributes:
        label: the best class, a path from coarse to fine.
        probability: its probability, 0 to 1.
        top_k: the best classes in falling order of probability; ties in the model's label order.
        ms: where the time went.
        device: what really ran, such as ``cpu``.
        model: name, version and digest of the model.
        verdict: what may be said with the precision that the model promises.
        unknown: the score behind *unknown*; None where the model has none fitted.
        labels: the set of labels for the coverage that was asked for; None where none was.
        gate: whether the image is accepted; None where the model has no operating point.
    """

    label: Label
    probability: float
    top_k: tuple[Ranked, ...]
    ms: Timings
    device: str
    model: ModelId
    verdict: Verdict
    unknown: UnknownScore | None = None
    labels: LabelSet | None = None
    gate: Gate | None = None
