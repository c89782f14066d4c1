"""Many images: decode and infer side by side, one record each, in order; errors become records."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeAlias, cast

from edge_fgr.decode import read_stream
from edge_fgr.errors import EdgeFgrError
from edge_fgr.records import Journal, Record, record_of
from edge_fgr.sources import STDIN
from edge_fgr.staged import staged_map

if TYPE_CHECKING:
    from pathlib import Path

    from edge_fgr.classifier import Classifier, Prepared
    from edge_fgr.contract import Roi

__all__ = ["classify_files"]

_Outcome: TypeAlias = tuple[Record | None, EdgeFgrError | None]

_SWITCH = 0.0005
"""Seconds after which a waiting thread gets the interpreter's lock."""
_lock = threading.RLock()  # a run that was dropped may end in the middle of this thread's turn
_runs, _usual = 0, 0.0  # runs with many workers that are under way; the interval before them


def classify_files(
    classifier: Classifier,
    files: Iterable[str | EdgeFgrError],
    *,
    top_k: int,
    roi: Roi | None = None,
    workers: int = 1,
    journal: Journal | None = None,
    explain: Path | None = None,
) -> Iterator[tuple[Record, EdgeFgrError | None]]:
    """Yield the record of each file and, for a failed one, its error.

    Args:
        classifier: answers; shared by the workers.
        files: paths, ``-`` for bytes on standard input, or an error found earlier.
        top_k: how many classes to rank.
        roi: region of interest that replaces the model's.
        workers: threads that decode and infer.
        journal: files in it are not computed again; new records are added to it.
        explain: folder that gets a picture of the evidence for each image; None: none.

    Raises:
        ContractError: evidence is asked for, and the model does not carry the weights of its head.
    """
    if explain is not None:
        classifier.head()  # without it no image can be explained: that is said once

    def failed(file: str, error: EdgeFgrError) -> _Outcome:
        return record_of(file, error, classifier.model, classifier.device), error

    def first(file: str | EdgeFgrError) -> _Outcome | tuple[str, str, str | bytes, Prepared]:
        """Decode; or return what there is to say already."""
        if isinstance(file, EdgeFgrError):
            return failed(str(file).partition(": ")[0], file)
        if journal is not None and file in journal:
            return None, None
        name, source = file, cast("str | bytes", file)
        try:
            if file == STDIN:
                name = "standard input"
                source = read_stream(sys.stdin.buffer, name)
            return file, name, source, classifier.prepare(source, roi=roi, name=name)
        except EdgeFgrError as error:
            return failed(file, error)

    def second(given: _Outcome | tuple[str, str, str | bytes, Prepared]) -> _Outcome:
        if len(given) == 2:
            return given
        file, name, source, prepared = given
        try:
            outcome = classifier.answer(prepared, top_k=top_k)
            record = record_of(file, outcome, classifier.model, classifier.device)
            if explain is not None:
                from edge_fgr.saliency import write_evidence

                evidence = classifier.explain(source, outcome, roi=roi, name=name)
                record["evidence"] = str(write_evidence(evidence, explain, name))
        except EdgeFgrError as error:
            return failed(file, error)
        return record, None

    kept = list(files)
    # What one thread does in Python between two native calls takes no longer.
    with _short_turns() if workers > 1 else nullcontext():
        for file, (record, error) in zip(
            kept, staged_map(first, second, kept, workers), strict=True
        ):
            if journal is not None and record is not None and error is None:
                journal.add(record)
            if record is None:
                assert journal is not None and isinstance(file, str)  # noqa: S101  typing only
                record = journal.get(file)  # noqa: PLW2901
            yield record, error


@contextmanager
def _short_turns() -> Iterator[None]:
    """Shorten the interpreter's switch interval; the last run of several gives it back."""
    global _runs, _usual  # noqa: PLW0603  the interval is one for the process
    with _lock:
        if not _runs:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, _SWITCH))
        _runs += 1
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if not _runs:
                sys.setswitchinterval(_usual)
