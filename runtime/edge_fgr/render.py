"""Records as table, JSON, JSON Lines or CSV; each is written as soon as it is known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import IO, Any

from edge_fgr.options import FORMATS, Format
from edge_fgr.records import Record, to_line

__all__ = ["FORMATS", "Format", "Writer", "writer"]

_WIDEST_NAME = 60


class Writer:
    """Base of the formats: ``add`` a record at a time, then ``close``."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def add(self, record: Record) -> None:
        """Write one record."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what stands after the last record."""


class _JsonLines(Writer):
    def add(self, record: Record) -> None:
        self._out.write(to_line(record) + "\n")
        self._out.flush()


class _Json(Writer):
    _before = "[\n"

    def add(self, record: Record) -> None:
        self._out.write(self._before + to_line(record))
        self._before = ",\n"

    def close(self) -> None:
        self._out.write("\n]\n" if self._before == ",\n" else "[]\n")


class _Table(Writer):
    def __init__(self, out: IO[str], ranks: int, width: int) -> None:
        super().__init__(out)
        self._ranks, self._width = ranks, min(width, _WIDEST_NAME)

    def add(self, record: Record) -> None:
        name = _printable(record["file"])
        for share, words in _rows(record, self._ranks):
            self._out.write(f"{name:{self._width}}  {share:>7}  {_printable(words)}\n")
            name = ""
        self._out.flush()


def _rows(record: Record, ranks: int) -> list[tuple[str, str]]:
    """Return what a table says of an image: a probability, or nothing, and words."""
    top = [(f"{rank['probability']:.2%}", _path(rank["label"])) for rank in record["top_k"][:ranks]]
    verdict, labels = record["verdict"], record["set"]
    if verdict is None or not top:  # an error
        return []
    share, name = top[0]
    if verdict["kind"] == "class" and record["gate"]:
        said = (f"{verdict['probability']:.2%}", f"{_path(verdict['label'])} (accepted)")
        rows = [said, *(top if ranks > 1 else [])]
    elif verdict["kind"] == "class":
        rows = top
    elif verdict["kind"] == "rejected" and verdict["label"]:
        perhaps = f"{_path(verdict['label'])} {verdict['probability']:.2%}"
        rows = [("", f"rejected (perhaps {perhaps})"), *(top if ranks > 1 else [])]
    elif verdict["kind"] == "coarse":
        said = (
            f"{verdict['probability']:.2%}",
            f"{_path(verdict['label'])} (perhaps {name} {share})",
        )
        rows = [said, *(top if ranks > 1 else [])]
    else:
        said = ("", f"{verdict['kind']} (nearest: {name} {share})")
        rows = [said, *(top if ranks > 1 else [])]
    if labels is not None:
        held = ", ".join(map(_path, labels["labels"]))
        rows = [
            *rows,
            ("", f"one of {len(labels['labels'])} ({labels['coverage']:g} sure): {held}"),
        ]
    return rows


def _path(label: list[str]) -> str:
    return " > ".join(label)


class _Csv(Writer):
    _FIXED = ("file", "status", "label", "probability")
    _REST = (
        "device", "model_name", "model_version", "model_digest",
        "decode_ms", "infer_ms", "total_ms",
        "exif_time", "gps_latitude", "gps_longitude",
        "error_code", "error_kind", "error_message",
        "verdict", "verdict_label", "verdict_probability", "verdict_reason",
        "unknown_score", "unknown_threshold", "set_coverage", "set_labels", "evidence",
        "gate_label", "gate_accepted", "gate_probability", "gate_threshold",
    )  # fmt: skip

    def __init__(self, out: IO[str], ranks: int) -> None:
        super().__init__(out)
        self._ranks = ranks
        more = [f"{what}_{i}" for i in range(2, ranks + 1) for what in ("label", "probability")]
        self._row([*self._FIXED, *more, *self._REST])

    def add(self, record: Record) -> None:
        from edge_fgr.capture import capture_of

        row: list[Any] = [record["file"], record["status"]]
        for i in range(self._ranks):
            rank = record["top_k"][i] if i < len(record["top_k"]) else None
            row += ["/".join(rank["label"]), rank["probability"]] if rank else ["", ""]
        model, ms, error = record["model"], record["ms"] or {}, record["error"] or {}
        capture = capture_of(record["file"]) if record["status"] == "ok" else None
        row += [record["device"], model["name"], model["version"], model["digest"]]
        row += [ms.get(key, "") for key in ("decode", "infer", "total")]
        row += [capture.time, capture.latitude, capture.longitude] if capture else ["", "", ""]
        row += [error.get(key, "") for key in ("code", "kind", "message")]
        self._row(row + _verdict_cells(record))

    def _row(self, row: list[Any]) -> None:
        import csv

        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow("" if cell is None else cell for cell in row)
        self._out.write(line.getvalue())
        self._out.flush()


def _verdict_cells(record: Record) -> list[Any]:
    verdict, unknown, labels = (record[key] or {} for key in ("verdict", "unknown", "set"))
    cells = [verdict.get("kind"), "/".join(verdict.get("label", ()))]
    cells += [verdict.get("probability"), verdict.get("reason")]
    cells += [unknown.get("score"), unknown.get("threshold"), labels.get("coverage")]
    held = " | ".join("/".join(label) for label in labels.get("labels", ()))
    gate = record["gate"] or {}
    accepted = {True: "true", False: "false"}.get(gate.get("accepted", ""), "")
    cells += [held, record["evidence"], "/".join(gate.get("label", ())), accepted]
    return [*cells, gate.get("probability"), gate.get("threshold")]


def writer(form: Format, out: IO[str], *, ranks: int, names: list[str]) -> Writer:
    """Return the writer of a format.

    Args:
        form: which format.
        out: where to.
        ranks: classes a table shows for an image, and a CSV has columns for.
        names: the files that will come, for the width of a table's first column.
    """
    makers: dict[Format, Callable[[], Writer]] = {
        "table": lambda: _Table(out, ranks, max(map(len, names), default=0)),
        "json": lambda: _Json(out),
        "jsonl": lambda: _JsonLines(out),
        "csv": lambda: _Csv(out, ranks),
    }
    return makers[form]()


def _printable(text: str) -> str:
    """Keep control characters of hostile file names off the terminal."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
