"""Classify what comes: the pictures of a folder, a video or a camera, one record each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Literal

from edge_fgr.errors import EdgeFgrError, ImageError, UsageError
from edge_fgr.quality import Inspector, Limits, Quality
from edge_fgr.records import Record, blank_record, record_of

if TYPE_CHECKING:
    from PIL import Image

    from edge_fgr.classifier import Classifier
    from edge_fgr.frames import Frame, Frames

__all__ = ["Checks", "Counts", "Until", "Watch", "WatchRecord", "parse_until"]

Checks = Literal["off", "report", "reject"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class WatchRecord(Record):
    """The record of ``classify`` and, for every picture, three keys more."""

    frame: int | None
    time: str | None
    quality: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Until:
    """When to end: after so many records, or so many seconds; None for never."""

    records: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pictures came, and what became of them.

    ``seen`` may be more than the sum: what ``--every`` passed over, and the frame in hand at the
    end, are neither classified nor dropped.
    """

    seen: int
    classified: int
    rejected: int
    failed: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.seen} frames seen, {self.classified} classified, {self.rejected} rejected, "
            f"{self.failed} failed, {self.dropped} dropped"
        )


def parse_until(text: str) -> Until:
    """Return what ``100`` (records), ``30s``, ``5m`` or ``1.5h`` mean.

    Raises:
        UsageError: it is none of these, or not above 0.
    """
    try:
        if text[-1:] in _UNITS:
            wanted = Until(seconds=float(text[:-1]) * _UNITS[text[-1]])
        else:
            wanted = Until(records=int(text))
    except ValueError:
        wanted = Until(records=0)
    if not (wanted.records or wanted.seconds or 0) > 0:
        raise UsageError(f"--until {text}: is neither a number of pictures nor a time such as 30s")
    return wanted


class Watch:
    """Iterate over it for the records, as they come; it ends with the source, or as told.

    Args:
        classifier: answers.
        source: where pictures come from; the caller closes it.
        top_k: how many classes to rank.
        quality: ``reject`` gives pictures at fault a record without a label, ``report``
            classifies them all the same, ``off`` does not look.
        limits: from where on a picture is at fault.
        until: when to end.
        stop: asked between pictures, and ten times a second while there are none; True ends.

    Raises:
        EdgeFgrError: while iterating: the source ended badly, or the model could not be run.
    """

    def __init__(
        self,
        classifier: Classifier,
        source: Frames,
        *,
        top_k: int = 5,
        quality: Checks = "reject",
        limits: Limits | None = None,
        until: Until | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._classifier = classifier
        self._source = source
        self._top_k = top_k
        self._quality = quality
        self._inspector = Inspector(limits, classifier.contract.geometry.roi)
        self._until = until or Until()
        self._stop = stop
        self._statuses = {"ok": 0, "rejected": 0, "error": 0}

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return Counts(
            self._source.seen,
            self._statuses["ok"],
            self._statuses["rejected"],
            self._statuses["error"],
            self._source.dropped,
        )

    def __iter__(self) -> Iterator[WatchRecord]:
        start, generation = monotonic(), self._source.generation
        for frame in self._source:
            if frame is not None:
                if generation != self._source.generation:
                    generation = self._source.generation
                    self._inspector.forget()
                record = self._one(frame)
                self._statuses[record["status"]] += 1
                yield record
            if self._stop() or self._is_over(monotonic() - start):
                return

    def _is_over(self, seconds: float) -> bool:
        until = self._until
        if until.records is not None and sum(self._statuses.values()) >= until.records:
            return True
        return until.seconds is not None and seconds >= until.seconds

    def _one(self, frame: Frame) -> WatchRecord:
        """Return the record of one picture; only what is wrong with the picture is caught."""
        if isinstance(frame.picture, EdgeFgrError):
            return self._record(frame, frame.picture, None)
        quality = None
        start = perf_counter()
        if self._quality != "off":
            quality = self._inspector.inspect(frame.picture, frame.moment)
            if quality.fault and self._quality == "reject":
                return self._record(frame, None, quality)
        looked = frame.decode_ms + (perf_counter() - start) * 1e3
        return self._record(frame, self._classify(frame, frame.picture, looked), quality)

    def _classify(self, frame: Frame, picture: Image.Image, before_ms: float) -> Any:
        try:
            found = self._classifier(picture, top_k=self._top_k, channels="rgb", name=frame.file)
        except ImageError as error:
            return error
        ms = found.ms
        spent = replace(ms, decode=ms.decode + frame.decode_ms, total=ms.total + before_ms)
        return replace(found, ms=spent)

    def _record(self, frame: Frame, outcome: Any, quality: Quality | None) -> WatchRecord:
        model, device = self._classifier.model, self._classifier.device
        if outcome is None:
            record = blank_record(frame.file, "rejected", model, device)
        else:
            record = record_of(frame.file, outcome, model, device)
        return WatchRecord(
            **record,
            frame=frame.index,
            time=frame.time,
            quality=dict(quality.as_record()) if quality else None,
        )
