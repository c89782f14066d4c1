"""One JSON record per image, documented in docs/json.md; and the journal of a long run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from edge_fgr.errors import EdgeFgrError, OutputError, UsageError
from edge_fgr.lines import WholeLines
from edge_fgr.prediction import ModelId, Prediction

__all__ = ["SCHEMA_VERSION", "Journal", "Record", "blank_record", "record_of", "to_line"]

SCHEMA_VERSION = 1


class Record(TypedDict):
    """The record of one image; every key is always there, null where it has no meaning."""

    schema_version: int
    file: str
    status: str
    label: list[str] | None
    probability: float | None
    top_k: list[dict[str, Any]]
    model: dict[str, Any]
    device: str
    ms: dict[str, float] | None
    verdict: dict[str, Any] | None
    unknown: dict[str, Any] | None
    set: dict[str, Any] | None
    gate: dict[str, Any] | None
    evidence: str | None
    error: dict[str, Any] | None


def blank_record(file: str, status: str, model: ModelId, device: str) -> Record:
    """Return a record that says nothing but what it is of."""
    return Record(
        schema_version=SCHEMA_VERSION,
        file=file,
        status=status,
        label=None,
        probability=None,
        top_k=[],
        model={"name": model.name, "version": model.version, "digest": model.digest},
        device=device,
        ms=None,
        verdict=None,
        unknown=None,
        set=None,
        gate=None,
        evidence=None,
        error=None,
    )


def record_of(file: str, outcome: Prediction | EdgeFgrError, model: ModelId, device: str) -> Record:
    """Return the record of one image's prediction or error."""
    if isinstance(outcome, EdgeFgrError):
        record = blank_record(file, "error", model, device)
        record["error"] = {
            "code": outcome.exit_code,
            "kind": outcome.kind,
            "message": str(outcome),
        }
        return record
    record = blank_record(file, "ok", model, device)
    record["label"] = list(outcome.label)
    record["probability"] = round(outcome.probability, 6)
    record["top_k"] = [
        {"label": list(rank.label), "probability": round(rank.probability, 6)}
        for rank in outcome.top_k
    ]
    ms = outcome.ms
    record["ms"] = {
        "decode": round(ms.decode, 3),
        "infer": round(ms.infer, 3),
        "total": round(ms.total, 3),
    }
    verdict, unknown, labels = outcome.verdict, outcome.unknown, outcome.labels
    record["verdict"] = {
        "kind": verdict.kind,
        "label": list(verdict.label),
        "probability": round(verdict.probability, 6),
        "reason": verdict.reason,
    }
    if unknown is not None:
        record["unknown"] = {
            "score": unknown.score,
            "threshold": unknown.threshold,
            "method": unknown.method,
        }
    if labels is not None:
        record["set"] = {
            "coverage": labels.coverage,
            "labels": [list(label) for label in labels.labels],
            "reason": labels.reason,
        }
    if outcome.gate is not None:
        record["gate"] = {
            "label": list(outcome.gate.label),
            "accepted": outcome.gate.accepted,
            "probability": round(outcome.gate.probability, 6),
            "threshold": outcome.gate.threshold,
        }
    return record


def to_line(value: object) -> str:
    """Return ``value`` as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


class Journal(WholeLines):
    """Records already computed, in a JSON Lines file that survives an interrupted run.

    The first line says which model and options the records belong to. Failed images are tried
    again. Memory: one file offset per image.
    """

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self._offsets: dict[str, int] = {}
        head = {"schema_version": SCHEMA_VERSION, "resume": options}
        try:
            super().__init__(path, "--resume")
            first = self.at(0)
            if not first:
                self.add(head)
            elif _parse(first) != json.loads(json.dumps(head)):
                raise UsageError(
                    f"{path}: was made by another model or with other options; "
                    "give another file to --resume, or delete it"
                )
            for offset, line in self.lines():
                record = _parse(line)
                if isinstance(record, dict) and record.get("status") == "ok":
                    self._offsets[record["file"]] = offset
        except OSError as error:
            raise OutputError(f"{path}: cannot be used to resume ({error.strerror})") from None

    def __contains__(self, file: object) -> bool:
        return file in self._offsets

    def get(self, file: str) -> Record:
        """Return the record of a file that is in the journal."""
        record: Record = json.loads(self.at(self._offsets[file]))
        record.setdefault("gate", None)  # a journal from before there were any
        return record


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
