"""Where pictures come from, one after another: a folder that files drop into, a video, a camera.

Each source yields ``Frame``s, already decoded, and None where there is nothing yet, so that who
listens can stop. The folder is looked through again and again: no system's file events, which
network shares do not send. Video and cameras are read by PyAV (extra: camera).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from edge_fgr import image
from edge_fgr.contract import WHOLE
from edge_fgr.decode import read_bytes
from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError
from edge_fgr.sources import is_image_name

if TYPE_CHECKING:
    from PIL import Image

    from edge_fgr.contract import Geometry

__all__ = ["FolderSource", "Frame", "Frames", "stamp"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture.

    Attributes:
        file: its path, or the name of the video or camera.
        picture: upright RGB; or the error that stands for it.
        time: when it was taken, ISO 8601, UTC; None where nobody knows.
        index: number of the frame, from 0; None for files of a folder.
        moment: seconds on the source's clock; None where pictures do not follow each other.
        decode_ms: what decoding took.
    """

    file: str
    picture: Image.Image | EdgeFgrError
    time: str | None
    index: int | None = None
    moment: float | None = None
    decode_ms: float = 0.0


class Frames(Protocol):
    """What ``watch`` reads.

    Attributes:
        seen: frames that came so far; files that were reported, for a folder.
        dropped: those that were due and never yielded, because newer ones came first.
        generation: grows when a camera was lost and came back.
    """

    seen: int
    dropped: int
    generation: int

    def __iter__(self) -> Iterator[Frame | None]: ...

    def close(self) -> None:
        """Let go of the device or file; safe to call twice."""


def stamp(seconds: float) -> str:
    """Return a time of the clock, seconds since 1970, as ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


@dataclass(slots=True)
class _Waiting:
    """A file that is not known to be whole yet; times are those of the monotonic clock."""

    size: int
    mtime_ns: int
    since: float
    tried: bool = False


class FolderSource:
    """The image files right inside a folder, each once, when it is whole.

    A file is read when its size and time of change stood still for ``settle`` seconds. If it then
    does not decode whole, it has ``grace`` seconds from its last change on, and is yielded with
    its error after that. A file that changes later is a new picture. Files are yielded in the
    order of their times of change; none is ever dropped: the folder is the queue.

    Args:
        folder: is there, or InputMissingError is raised.
        geometry: of the model, for scaled decoding.
        done: files that were reported before, with the time that was reported.
        settle: seconds.
        grace: seconds.
        poll: seconds between two looks; at least four times what a look takes.
        retry: seconds that the folder may be away, as when a share is mounted again.

    Raises:
        InputMissingError: the folder is not there, or stayed away.
        PermissionDeniedError: it may not be read.
    """

    def __init__(
        self,
        folder: str,
        geometry: Geometry,
        *,
        done: dict[str, str | None] | None = None,
        settle: float = 0.3,
        grace: float = 10.0,
        poll: float = 0.2,
        retry: float = 30.0,
    ) -> None:
        self.seen = self.dropped = self.generation = 0
        self._folder = folder
        self._geometry = geometry
        self._done = dict(done or {})
        self._settle, self._grace, self._poll, self._retry = settle, grace, poll, retry
        self._waiting: dict[str, _Waiting] = {}
        self._known: dict[str, tuple[int, int]] = {}
        self._look()

    def __iter__(self) -> Iterator[Frame | None]:
        away_since: float | None = None
        while True:
            start = time.monotonic()
            try:
                ready = self._look()
                away_since = None
            except InputMissingError:
                away_since = start if away_since is None else away_since
                if start - away_since >= self._retry:
                    raise
                ready = []
            for path in ready:
                if frame := self._read(path):
                    self.seen += 1
                    yield frame
                yield None
            took = time.monotonic() - start if not ready else 0.0
            yield from _pause(max(self._poll, 4 * took))

    def close(self) -> None:
        """Nothing is held open."""

    def _look(self) -> list[str]:
        """Return the files to read now, oldest change first."""
        now = time.monotonic()
        found: dict[str, _Waiting] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if is_image_name(entry.name):
                        self._note(entry, now, found)
        except (FileNotFoundError, NotADirectoryError):
            raise InputMissingError(f"{self._folder}: no such folder; check the path") from None
        except PermissionError:
            raise PermissionDeniedError(
                f"{self._folder}: folder may not be read; check its permissions"
            ) from None
        except OSError as error:  # a share that went away
            raise InputMissingError(
                f"{self._folder}: folder cannot be read ({error.strerror}); is the share there?"
            ) from None
        self._waiting = {path: file for path, file in found.items() if path not in self._known}
        self._known = {path: self._known[path] for path in found if path in self._known}
        due = [
            path
            for path, file in self._waiting.items()
            if now - file.since >= (self._grace if file.tried else self._settle)
        ]
        return sorted(due, key=lambda path: (self._waiting[path].mtime_ns, path))

    def _note(self, entry: os.DirEntry[str], now: float, found: dict[str, _Waiting]) -> None:
        try:
            status = entry.stat()
        except OSError:  # renamed or removed meanwhile
            return
        if not stat.S_ISREG(status.st_mode):
            return
        size, mtime_ns = status.st_size, status.st_mtime_ns
        path = entry.path
        found[path] = _Waiting(size, mtime_ns, now)
        if path in self._known:
            if self._known[path] != (size, mtime_ns):
                del self._known[path]  # written anew: another picture
        elif self._done.pop(path, None) == stamp(mtime_ns / 1e9):
            self._known[path] = (size, mtime_ns)
        elif (old := self._waiting.get(path)) and (old.size, old.mtime_ns) == (size, mtime_ns):
            found[path] = old

    def _read(self, path: str) -> Frame | None:
        """Return the frame of a file; None while there is hope that it becomes whole."""
        file = self._waiting[path]
        start = time.perf_counter()
        result: Image.Image | EdgeFgrError
        try:
            data = read_bytes(path)
            region = self._geometry.roi or WHOLE
            result = image.read(data, self._geometry, roi=region, name=path)
            result.info.clear()  # it stands upright: EXIF must not turn it again
        except InputMissingError:
            return None
        except EdgeFgrError as error:
            if time.monotonic() - file.since < self._grace:
                file.tried = True
                return None
            result = error
        try:
            status = os.stat(path)  # noqa: PTH116
            changed = (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns)
        except OSError:
            changed = False
        if changed:  # while it was read: the next look sees a younger file
            return None
        self._known[path] = (file.size, file.mtime_ns)
        took = (time.perf_counter() - start) * 1e3
        return Frame(path, result, stamp(file.mtime_ns / 1e9), decode_ms=took)


def _pause(seconds: float) -> Iterator[None]:
    """Yield None while the time passes, often enough for a stop to be heard."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(0.1, left))
        yield None
