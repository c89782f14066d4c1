"""One run of ``edge-fgr bench``: its parts in turn, and a document that always holds what is known.

The document is written after every part, under its final name, whole: nothing that was measured is
lost when a later part fails or is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge_fgr.errors import EdgeFgrError
from edge_fgr.progress import one_line
from edge_fgr_bench.answers import Accuracy
from edge_fgr_bench.bench_images import Pool, spread
from edge_fgr_bench.candidates import Plan
from edge_fgr_bench.document import KIND, SCHEMA, Candidate, Document, Settings
from edge_fgr_bench.machine import host
from edge_fgr_bench.turns import Turns

if TYPE_CHECKING:
    from edge_fgr_bench.seats import Seat

__all__ = ["STREAM", "Run"]

STREAM = 256
"""Most images that queries go round: they stay in the system's memory of files."""


class Run:
    """Measures parts and keeps the document.

    Args:
        plans: the candidates.
        pool: the images.
        settings: how much.
        title: of the report.
        save: told the document after every part.
        missing: what is known to be missing from the start.
        command: the line that started it.
        note: what whoever measures has to say.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        pool: Pool,
        settings: Settings,
        title: str,
        save: Callable[[Document], None],
        missing: Sequence[str] = (),
        command: str = "",
        note: str = "",
    ) -> None:
        self._plans, self._pool, self._save = plans, pool, save
        self._start = time.monotonic()
        made = datetime.now(UTC).isoformat(timespec="seconds")
        self.document = Document(
            schema_version=SCHEMA,
            kind=KIND,
            complete=False,
            made=made,
            seconds=0.0,
            title=title,
            host=host(),
            settings=settings,
            images=pool.images,
            candidates=(),
            missing=(*missing, *_of_images(pool)),
            command=command,
            note=note,
        )

    def latency(self) -> None:
        """Measure how fast the candidates are; errors as ``Turns.run``."""
        settings = self.document.settings
        places = spread(len(self._pool.paths), STREAM)
        images = [str(self._pool.paths[place]) for place in places]
        turns = Turns(self._plans, images, settings)
        try:
            turns.run()
        finally:
            if any(one.cold_ms or one.us for one in turns.found()):
                self._keep(candidates=tuple(turns.candidates), latency=turns.found())

    def answers(self, *, accuracy: bool, robustness: bool) -> None:
        """Ask the candidates about the images as they are, and corrupted.

        Raises:
            EdgeFgrError: no candidate can be opened, and nothing was measured before.
        """
        from edge_fgr_bench.compared import compare
        from edge_fgr_bench.robust import corrupted

        seats = self._seats()
        if not seats:
            return
        if accuracy:
            found = compare(seats, self._pool)
            self._keep(accuracy=found, missing=(*self.document.missing, *_of_labels(seats, found)))
        if robustness:
            asked = self.document.settings
            found_robust = corrupted(seats, self._pool, asked.corruption_images, asked.seed)
            judged = self.document.accuracy.judged if self.document.accuracy else ()
            before = {one.key for one in judged if one.error}
            lost = [
                f"{seat.candidate.key}: failed under corruptions ({seat.error})"
                for seat in seats
                if seat.error and seat.candidate.key not in before
            ]
            self._keep(robustness=found_robust, missing=(*self.document.missing, *lost))

    def finish(self) -> Document:
        """Return the complete document, saved."""
        self._keep(complete=True)
        return self.document

    def _seats(self) -> list[Seat]:
        from edge_fgr_bench.seats import open_seat

        failed = {one.key for one in self.document.latency if one.error}
        seats: list[Seat] = []
        for plan in self._plans:
            if plan.key in failed:
                self._miss(f"{plan.key}: failed in the latency part, so it was asked nothing more")
                continue
            try:
                seats.append(open_seat(plan))
            except EdgeFgrError as error:
                if not self.document.candidates:
                    raise
                self._miss(f"{plan.key}: could not be opened again ({one_line(error)})")
        known: dict[str, Candidate] = {seat.candidate.key: seat.candidate for seat in seats}
        known |= {candidate.key: candidate for candidate in self.document.candidates}
        order = [plan.key for plan in self._plans if plan.key in known]
        self.document = replace(self.document, candidates=tuple(known[key] for key in order))
        return seats

    def _miss(self, sentence: str) -> None:
        self.document = replace(self.document, missing=(*self.document.missing, sentence))

    def _keep(self, **values: Any) -> None:
        seconds = round(time.monotonic() - self._start, 1)
        self.document = replace(self.document, seconds=seconds, **values)
        self._save(self.document)


def _of_images(pool: Pool) -> list[str]:
    found = []
    if pool.images.count == 1:
        found.append("one image: the figures are of this image alone; give a folder of many")
    return found


def _of_labels(seats: Sequence[Seat], accuracy: Accuracy) -> list[str]:
    """Return what the labels do not allow to say."""
    found = []
    judged = {one.key: one for one in accuracy.judged if not one.error}
    if not any(accuracy.truths):
        rest = "agreement alone was measured" if accuracy.pairs else "nothing could be compared"
        found.append(f"accuracy: the images have no labels; {rest}")
    for key, one in judged.items():
        if one.left_out and one.images:
            found.append(f"{key}: {one.left_out} images are of classes that it does not know")
        elif one.left_out:
            found.append(f"{key}: knows none of the images' classes; it has no accuracy here")
    with suppress(StopIteration):
        first = next(seat for seat in seats)
        other = next(s for s in seats if {*s.contract.labels} != {*first.contract.labels})
        found.append(
            f"{first.candidate.key} and {other.candidate.key} have different classes: candidates "
            "of different classes are not compared with each other"
        )
    return found
