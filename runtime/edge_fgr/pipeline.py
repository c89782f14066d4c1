"""Many images: decode and infer side by side, one record each, in order; errors become records."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge_fgr.errors import EdgeFgrError
from edge_fgr.parallel import ordered_map
from edge_fgr.records import Journal, Record, record_of
from edge_fgr.sources import STDIN

if TYPE_CHECKING:
    from pathlib import Path

    from edge_fgr.classifier import Classifier
    from edge_fgr.contract import Roi

__all__ = ["classify_files"]


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

    def one(file: str | EdgeFgrError) -> tuple[Record | None, EdgeFgrError | None]:
        if isinstance(file, EdgeFgrError):
            name = str(file).partition(": ")[0]
            return record_of(name, file, classifier.model, classifier.device), file
        if journal is not None and file in journal:
            return None, None
        try:
            source: str | bytes = file
            name = file
            if file == STDIN:
                source, name = sys.stdin.buffer.read(), "standard input"
            outcome = classifier(source, top_k=top_k, roi=roi, name=name)
            record = record_of(file, outcome, classifier.model, classifier.device)
            if explain is not None:
                from edge_fgr.saliency import write_evidence

                evidence = classifier.explain(source, outcome, roi=roi, name=name)
                record["evidence"] = str(write_evidence(evidence, explain, name))
        except EdgeFgrError as error:
            return record_of(file, error, classifier.model, classifier.device), error
        return record, None

    kept = list(files)
    for file, (record, error) in zip(kept, ordered_map(one, kept, workers), strict=True):
        if journal is not None and record is not None and error is None:
            journal.add(record)
        if record is None:
            assert journal is not None and isinstance(file, str)  # noqa: S101  typing only
            record = journal.get(file)  # noqa: PLW2901
        yield record, error
