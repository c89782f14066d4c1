"""The file of enrolled classes: one JSON document, bound to a model, written whole or not at all.

It keeps the embedding of each photo, so a class can grow and shrink. Two processes that change one
gallery wait for each other.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_fgr.contract import Label, build
from edge_fgr.errors import (
    ContractError,
    GalleryError,
    InputMissingError,
    OutputError,
    PermissionDeniedError,
    UsageError,
)
from edge_fgr.files import atomic_write
from edge_fgr.packed import pack, unpack
from edge_fgr.prediction import ModelId

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = [
    "MOST_PHOTOS",
    "Enrolled",
    "Photo",
    "Stored",
    "add_photos",
    "changing",
    "read_store",
    "without",
    "write_store",
]

MOST_PHOTOS = 20
"""Photos of one enrolled class."""

_SCHEMA = 1

_MOST_BYTES = 1 << 28
"""More than the photos of 1000 classes take: what is larger is another file."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One enrolled photo.

    Attributes:
        name: of its file, for people.
        digest: SHA-256 of its content.
        embedding: base64 of little-endian float32 ``(D,)``.
    """

    name: str
    digest: str
    embedding: str

    @classmethod
    def of(cls, name: str, digest: str, embedding: Floats) -> Photo:
        """Return the record of a photo with embedding ``(D,)``."""
        return cls(name, digest, pack(embedding, "<f4"))

    def values(self) -> Floats:
        """Return the embedding, float32 ``(D,)``.

        Raises:
            ValueError: it is no such text.
        """
        return unpack(self.embedding, "<f4")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A class that was learned on the device: its path and its photos, oldest first."""

    label: Label
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds: the model that the embeddings are of, and the classes."""

    model: ModelId
    classes: tuple[Enrolled, ...]
    schema: int = _SCHEMA

    def find(self, label: Label) -> Enrolled | None:
        """Return the class of this label, if it was enrolled."""
        return next((one for one in self.classes if one.label == label), None)


def read_store(path: str | os.PathLike[str]) -> Stored:
    """Read a gallery strictly.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
        GalleryError: it is no gallery, is damaged, or is newer than this reader.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116  a pipe or device never ends
            raise GalleryError(f"{name}: is no gallery (a folder, pipe or device); give a file")
        with Path(name).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise GalleryError(
                f"{name}: is no gallery (larger than {_MOST_BYTES >> 20} MiB); give another"
            )
        text = data.decode()
    except PermissionError:
        raise PermissionDeniedError(f"{name}: may not be read; check its permissions") from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputMissingError(f"{name}: no such gallery; make one with edge-fgr enroll") from None
    except (OSError, ValueError) as error:
        raise GalleryError(f"{name}: is no gallery ({error}); give another file") from None
    try:
        raw = json.loads(text)
        if isinstance(raw, dict) and raw.get("schema") != _SCHEMA:
            raise ContractError(f"schema must be {_SCHEMA}, not {raw.get('schema')!r}")
        stored: Stored = build(Stored, raw, "gallery")
        _check(stored)
    except (ValueError, RecursionError, ContractError) as error:
        cause = " ".join(str(error).split())
        raise GalleryError(f"{name}: is no whole gallery ({cause}); enroll again") from None
    return stored


def write_store(path: str | os.PathLike[str], stored: Stored) -> None:
    """Write a gallery, whole or not at all; a link to one stays a link.

    Raises:
        OutputError: it cannot be written; an older one is untouched.
    """
    text = json.dumps(asdict(stored), ensure_ascii=False, indent=1) + "\n"
    # Names of files that are not valid UTF-8 become escapes, which JSON reads.
    atomic_write(_real(path), text.encode("utf-8", "backslashreplace"))


@contextmanager
def changing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from changing the gallery until the end of the block.

    The lock is an empty file beside it, which stays: to remove it could part two who wait.

    Raises:
        OutputError: its folder cannot be written.
    """
    beside = _real(path).with_name(f".{_real(path).name}.lock")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        lock = beside.open("ab")
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: cannot be written ({error.strerror})") from None
    with lock:
        _wait_for(lock.fileno())
        yield  # closing the file gives the lock back


def add_photos(stored: Stored, label: Label, photos: Sequence[Photo]) -> Stored:
    """Return the gallery with more photos of a class, which may be new.

    Raises:
        UsageError: more than ``MOST_PHOTOS``, or a photo that another class has.
    """
    for other in stored.classes:
        for known in other.photos:
            for photo in photos:
                if photo.digest == known.digest and other.label != label:
                    raise UsageError(
                        f"{photo.name}: is enrolled as {'/'.join(other.label)}; one photo cannot "
                        "be of two classes"
                    )
    before = stored.find(label) or Enrolled(label, ())
    every = {photo.digest: photo for photo in (*before.photos, *photos)}
    if len(every) > MOST_PHOTOS:
        raise UsageError(
            f"{'/'.join(label)}: {len(every)} photos; at most {MOST_PHOTOS} of a class can be "
            "enrolled, and for more it pays to train"
        )
    grown = Enrolled(label, tuple(every.values()))
    if before.photos:
        classes = tuple(grown if one.label == label else one for one in stored.classes)
    else:
        classes = (*stored.classes, grown)
    return replace(stored, classes=classes)


def without(stored: Stored, label: Label) -> Stored:
    """Return the gallery without a class.

    Raises:
        UsageError: it holds no class of this name.
    """
    if stored.find(label) is None:
        known = ", ".join("/".join(one.label) for one in stored.classes) or "none"
        raise UsageError(f"{'/'.join(label)}: is not enrolled; enrolled: {known}")
    return replace(stored, classes=tuple(one for one in stored.classes if one.label != label))


def _check(stored: Stored) -> None:
    """Raise ValueError for what the types do not rule out."""
    import numpy as np

    sizes = set()
    for one in stored.classes:
        if not one.label or not all(one.label) or not 1 <= len(one.photos) <= MOST_PHOTOS:
            raise ValueError("a class without a name, without photos, or with too many")
        for photo in one.photos:
            values = photo.values()
            sizes.add(len(values))
            if not len(values) or not np.isfinite(values).all():
                raise ValueError(f"{photo.name}: no embedding")
    if len(sizes) > 1 or len({one.label for one in stored.classes}) != len(stored.classes):
        raise ValueError("embeddings of different lengths, or a class that stands twice")


def _real(path: str | os.PathLike[str]) -> Path:
    """Follow links, so that all names of one gallery share its lock."""
    return Path(os.path.realpath(path))


def _wait_for(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX)
