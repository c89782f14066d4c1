"""JSON Lines that are appended to a file, and what is in it from an earlier run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edge_fgr.errors import OutputError

__all__ = ["Lines", "WholeLines"]


class WholeLines:
    """A file of lines to append to; a half-written last one, as a loss of power leaves, is cut off.

    Raises:
        OSError: the file cannot be read and written.
        OutputError: there is something else than a file: a device may be read without an end.
    """

    def __init__(self, path: Path, option: str) -> None:
        self._path = path
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: cannot be written (is not a file); give a file to {option}")
        self._file: IO[bytes] = path.open("a+b")
        self._file.seek(0)
        whole = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line and where it begins."""
        self._file.seek(0)
        offset = 0
        for line in self._file:
            yield offset, line
            offset += len(line)

    def at(self, offset: int) -> bytes:
        """Return the line that begins there."""
        self._file.seek(offset)
        return self._file.readline()

    def add(self, value: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            OutputError: the disk is full, or the file can no longer be written.
        """
        try:
            self._file.seek(0, os.SEEK_END)
            # ASCII only: file names that are not valid UTF-8 survive as escapes.
            self._file.write(json.dumps(value).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror})") from None


class Lines(WholeLines):
    """A file that records are appended to.

    Other than the journal of ``classify --resume`` there is no first line of options: the file is
    data for programs.

    Attributes:
        done: files that records are there of, with the last one's time.

    Raises:
        OutputError: the file cannot be read and written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.done: dict[str, str | None] = {}
        try:
            super().__init__(path, "--out")
            for _, line in self.lines():
                self._note(line)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def _note(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            self.done[record["file"]] = record.get("time")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise OutputError(
                f"{self._path}: holds a line that is no record; give another file to --out"
            ) from None
