"""JSON Lines that are appended to a file, and what is in it from an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edge_fgr.errors import OutputError

__all__ = ["Lines"]


class Lines:
    """A file that records are appended to, each whole when the next one is begun.

    A half-written last line, as a loss of power leaves, is cut off. Other than the journal of
    ``classify --resume`` there is no first line of options: the file is data for programs.

    Attributes:
        done: files that records are there of, with the last one's time.

    Raises:
        OutputError: the file cannot be read and written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, str | None] = {}
        if path.exists() and not path.is_file():  # a device may be read without an end
            raise OutputError(f"{path}: cannot be written (is not a file); give a file to --out")
        try:
            self._file: IO[bytes] = path.open("a+b")
            self._read()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            OutputError: the disk is full, or the file can no longer be written.
        """
        try:
            # ASCII only: file names that are not valid UTF-8 survive as escapes.
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror})") from None

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                record = json.loads(line)
                self.done[record["file"]] = record.get("time")
            except (ValueError, TypeError, KeyError, AttributeError):
                raise OutputError(
                    f"{self._path}: holds a line that is no record; give another file to --out"
                ) from None
        self._file.truncate(whole)
