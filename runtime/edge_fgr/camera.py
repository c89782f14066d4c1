"""Frames of a video file, and of a camera or stream that never ends, through PyAV (extra: camera).

A video is read to its end, no frame left out. A camera does not wait: a thread keeps reading it,
and only the newest frame is kept for whoever asks; what it replaces is counted as dropped. A
camera that goes away is tried again for a bounded time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge_fgr.errors import (
    EdgeFgrError,
    ImageError,
    InputMissingError,
    MissingExtraError,
    PermissionDeniedError,
    UnavailableError,
)
from edge_fgr.frames import Frame, stamp
from edge_fgr.progress import say

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["CameraSource", "VideoSource", "is_camera"]

_DEVICES = ("v4l2", "dshow", "avfoundation", "lavfi")
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
_OPEN_SECONDS = 10.0


def is_camera(name: str) -> bool:
    """Whether a source's name means something live: ``/dev/video0``, ``FORMAT:NAME``, a URL."""
    known = name.startswith(("/dev/video", *_STREAMS, *(f"{device}:" for device in _DEVICES)))
    return known and not os.path.isfile(name)  # noqa: PTH113


class VideoSource:
    """Every frame of a video file, or one each ``every`` seconds of it.

    ``Frame.time`` is known where the file says when it was taken.

    Raises:
        InputMissingError: there is no such file.
        ImageError: it is no video that can be read here; or it is damaged, from where on it is
            yielded as the last frame's error.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: str, *, every: float = 0.0) -> None:
        self.seen = self.dropped = self.generation = 0
        self._path, self._every = path, every
        library = _library(path)
        try:
            self._container: Any = library.open(path)
        except FileNotFoundError:
            raise InputMissingError(f"{path}: no such file; check the path") from None
        except PermissionError:
            raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
        except (OSError, ValueError) as error:  # PyAV's own errors are both
            raise ImageError(
                f"{path}: not a video that can be read here ({_cause(error)})", kind="not_an_image"
            ) from None
        if not self._container.streams.video:
            raise ImageError(f"{path}: holds no video; give one that does", kind="not_an_image")

    def __iter__(self) -> Iterator[Frame | None]:
        taken = _taken(self._container)
        rate = self._container.streams.video[0].average_rate
        due = float("-inf")
        frames = self._container.decode(video=0)
        while True:
            start = time.perf_counter()
            try:
                frame = next(frames, None)
                if frame is None:
                    return
                index, self.seen = self.seen, self.seen + 1
                at = frame.time if frame.time is not None else index / float(rate or 25)
                if at < due:
                    yield None
                    continue
                due = _after(due, at, self._every)
                picture = frame.to_image()
            except (OSError, ValueError) as error:
                yield Frame(
                    self._path,
                    ImageError(f"{self._path}: damaged after frame {self.seen} ({_cause(error)})"),
                    None,
                    self.seen,
                )
                return
            when = None if taken is None else stamp(taken + at)
            yield Frame(self._path, picture, when, index, at, (time.perf_counter() - start) * 1e3)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class CameraSource:
    """The newest frame of a camera or stream, whenever one is asked for.

    Args:
        name: ``/dev/video0``, ``FORMAT:NAME`` for an input device of FFmpeg (v4l2, dshow,
            avfoundation, lavfi), or a URL such as ``rtsp://…``.
        every: seconds between two frames that are due; the others are seen, not dropped.
        retry: seconds that a lost camera is tried again, at growing intervals; 0 for not at all.
        silence: seconds without a frame after which it counts as lost.

    Raises:
        UnavailableError: it cannot be opened at the start, or did not come back.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(
        self, name: str, *, every: float = 0.0, retry: float = 30.0, silence: float = 10.0
    ) -> None:
        self.seen = self.dropped = self.generation = 0
        self._name, self._every, self._retry, self._silence = name, every, retry, silence
        self._library = _library(name)
        self._changed = threading.Condition()
        self._newest: tuple[Any, int, float, float] | None = None
        self._due = float("-inf")
        self._lost = ""
        self._heard = 0.0
        self._closed = False
        self._start(self._open())

    def __iter__(self) -> Iterator[Frame | None]:
        while True:
            with self._changed:
                if self._newest is None and not self._lost:
                    self._changed.wait(0.1)
                newest, self._newest = self._newest, None
                lost = self._lost
            if newest is not None:
                frame, index, moment, clock = newest
                start = time.perf_counter()
                picture = frame.to_image()
                took = (time.perf_counter() - start) * 1e3
                yield Frame(self._name, picture, stamp(clock), index, moment, took)
            elif lost:
                yield from self._again(lost)
            else:
                if time.monotonic() - self._heard > self._silence:
                    self._lost = f"no frame for {self._silence:.0f} s"
                yield None

    def close(self) -> None:
        """Stop reading; the thread lets go of the camera after its next frame."""
        with self._changed:
            self._closed = True
            self.generation += 1
        self._thread.join(2.0)

    def _open(self) -> Any:
        form, name = _address(self._name)
        try:
            container = self._library.open(
                name, format=form, timeout=(_OPEN_SECONDS, self._silence)
            )
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"{self._name}: no such camera or stream ({_cause(error)}); is it plugged in?"
            ) from None
        if not container.streams.video:
            container.close()
            raise UnavailableError(f"{self._name}: sends no video; give one that does")
        return container

    def _start(self, container: Any) -> None:
        self._heard = time.monotonic()
        self._thread = threading.Thread(
            target=self._read, args=(container, self.generation), name="edge-fgr", daemon=True
        )
        self._thread.start()

    def _read(self, container: Any, generation: int) -> None:
        """Read until the stream ends; runs in a thread of its own, one a generation."""
        cause = "the stream ended"
        try:
            with container:
                for frame in container.decode(video=0):
                    if not self._keep(frame, generation):
                        return
        except (OSError, ValueError) as error:
            cause = _cause(error)
        with self._changed:
            if generation == self.generation and not self._closed:
                self._lost = cause
                self._changed.notify()

    def _keep(self, frame: Any, generation: int) -> bool:
        now = time.monotonic()
        with self._changed:
            if generation != self.generation or self._closed:
                return False
            index, self.seen, self._heard = self.seen, self.seen + 1, now
            if now >= self._due:
                self._due = _after(self._due, now, self._every)
                self.dropped += self._newest is not None
                self._newest = (frame, index, now, time.time())
                self._changed.notify()
        return True

    def _again(self, cause: str) -> Iterator[None]:
        """Open the camera again; yields None while it waits."""
        since, wait = time.monotonic(), 0.5
        while True:
            left = since + self._retry - time.monotonic()
            if left <= 0:
                raise UnavailableError(
                    f"{self._name}: camera lost ({cause}) and not back within {self._retry:g} s; "
                    "check its cable, or give a longer --retry"
                )
            say(f"edge-fgr: {self._name}: camera lost ({cause}); trying again")
            end = time.monotonic() + min(wait, left)
            while time.monotonic() < end:
                time.sleep(0.05)
                yield None
            wait = min(2 * wait, 10.0)
            with self._changed:
                self.generation += 1  # a thread that still hangs in the old one is not listened to
            try:
                container = self._open()
            except EdgeFgrError:
                continue
            with self._changed:
                self._lost = ""
            self._start(container)
            return


def _library(name: str) -> ModuleType:
    try:
        import av
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"{name}: videos and cameras need the package av; pip install 'edge-fgr[camera]'"
        ) from None
    av.logging.set_level(None)
    return av


def _after(due: float, now: float, every: float) -> float:
    """Return when the next frame is due: steps of ``every`` from the first, past ones left out."""
    if not every:
        return float("-inf")
    if due == float("-inf"):
        return now + every
    return due + every * (1 + (now - due) // every)


def _address(name: str) -> tuple[str | None, str]:
    """Return FFmpeg's input format, None where it finds out itself, and the address."""
    if name.startswith("/dev/video"):
        return "v4l2", name
    form, _, rest = name.partition(":")
    return (form, rest) if form in _DEVICES else (None, name)


def _taken(container: Any) -> float | None:
    """Return when a video was begun, seconds since 1970, if it says so."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(container.metadata["creation_time"]).timestamp()
    except (KeyError, ValueError):
        return None


def _cause(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
