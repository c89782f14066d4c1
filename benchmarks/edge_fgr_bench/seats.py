"""Candidates that answer images in this process: logits, and whether they call them unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import EdgeFgrError
from edge_fgr.model import Model, model_of
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import Advance, one_line
from edge_fgr.sessions import open_session
from edge_fgr.verdict import Decider
from edge_fgr_bench.candidates import Plan, describe
from edge_fgr_bench.document import Candidate

if TYPE_CHECKING:
    from edge_fgr.image import Pixels

__all__ = ["Answers", "Seat", "answer_all", "open_seat"]

_BATCH = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """What one candidate says to N images.

    Attributes:
        logits: float32 ``(N, C)``.
        strange: bool ``(N,)``, whether it calls the image unknown; None where it has no threshold.
    """

    logits: npt.NDArray[np.float32]
    strange: npt.NDArray[np.bool_] | None


class Seat:
    """One candidate, open. ``error`` is set when it failed; it is not asked again then."""

    def __init__(self, candidate: Candidate, model: Model) -> None:
        self.candidate = candidate
        self.error: str | None = None
        self._model = model
        fitted = model.contract.confidence
        self._has_threshold = fitted is not None and fitted.unknown is not None
        familiar = None
        if fitted and fitted.unknown and fitted.unknown.score == "whitened_cosine":
            familiar = model.familiar()
        self._decider = Decider(model.contract, familiar)
        self._outputs = ("logits", "embedding") if familiar else ("logits",)

    @property
    def contract(self) -> Contract:
        """What the model says about itself."""
        return self._model.contract

    def answer(self, pixels: Pixels) -> Answers | None:
        """Answer uint8 pixels ``(N, H, W, 3)``; None when it fails, or failed before."""
        if self.error:
            return None
        try:
            rows = self._model.outputs(pixels, *self._outputs)
        except EdgeFgrError as error:
            self.error = one_line(error)
            return None
        if not np.isfinite(rows[0]).all():
            self.error = f"{self._model.path}: its logits are no numbers; do not use it"
            return None
        if not self._has_threshold:
            return Answers(rows[0], None)
        strange = [self._strange(*row) for row in zip(*rows, strict=True)]
        return Answers(rows[0], np.array(strange, bool))

    def _strange(self, logits: Any, embedding: Any = None) -> bool:
        return self._decider(logits, embedding, 1).verdict.kind == "unknown"


def open_seat(plan: Plan) -> Seat:
    """Open a candidate with one thread: images are answered side by side.

    Raises:
        EdgeFgrError: see ``edge_fgr.model.open_model``.
    """
    opened = open_session(plan.model, device=plan.device, device_options=plan.options, cache=True)
    model = model_of(opened)
    return Seat(describe(plan, opened, model.contract), model)


def answer_all(
    seats: Sequence[Seat],
    make: Callable[[Geometry, int], Pixels],
    count: int,
    advance: Advance,
) -> list[Answers | None]:
    """Return what each candidate says to ``count`` images; None for those that failed.

    Args:
        seats: the candidates; those of one geometry share an image's pixels.
        make: pixels uint8 ``(size, size, 3)`` of an image by geometry and place.
        count: at least 1.
        advance: told after every few images.
    """
    geometries = list(dict.fromkeys(seat.contract.geometry for seat in seats))
    chunks = [range(i, min(i + _BATCH, count)) for i in range(0, count, _BATCH)]

    def work(chunk: range) -> list[Answers | None]:
        made = {g: np.stack([make(g, place) for place in chunk]) for g in geometries}
        return [seat.answer(made[seat.contract.geometry]) for seat in seats]

    rows: list[list[Answers | None]] = [[] for _ in seats]
    for chunk, answers in zip(chunks, ordered_map(work, chunks, cores()), strict=True):
        for row, one in zip(rows, answers, strict=True):
            row.append(one)
        advance(len(chunk), "")
    return [_joined(row) for row in rows]


def _joined(parts: Sequence[Answers | None]) -> Answers | None:
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    strange = [part.strange for part in whole if part.strange is not None]
    return Answers(
        np.concatenate([part.logits for part in whole]),
        np.concatenate(strange) if strange else None,
    )
