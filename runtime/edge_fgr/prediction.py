"""What a classification answers. Frozen values, standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from edge_fgr.contract import Label

__all__ = ["ModelId", "Prediction", "Ranked", "Timings"]


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
class Prediction:
    """The answer for one image.

    Attributes:
        label: the best class, a path from coarse to fine.
        probability: its probability, 0 to 1.
        top_k: the best classes in falling order of probability; ties in the model's label order.
        ms: where the time went.
        device: what really ran: ``cpu`` or ``cuda``.
        model: name, version and digest of the model.
    """

    label: Label
    probability: float
    top_k: tuple[Ranked, ...]
    ms: Timings
    device: str
    model: ModelId
