"""SHA-256 of model files, and a note of it, so that a second start need not read the file for it.

A note counts as long as the file's place, size, inode and times are what they were, as git takes
an unchanged file for unchanged; whoever wants the file hashed anyway turns the cache off. A note of
a file that changed within the last seconds is not written: it might change again within one tick.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

from edge_fgr.files import cache_folder, cache_write

__all__ = ["digest_of"]

_SETTLED = 2.0
"""Seconds since the last change from which a note is written: the coarsest clock of files."""

_KEPT = 64
"""Notes in the folder; the oldest go."""


def digest_of(path: Path, *, noted: bool) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Args:
        path: the file.
        noted: take it from a note where there is one that holds, and leave one.

    Raises:
        OSError: the file cannot be read.
    """
    if not noted:
        return _hashed(path)
    facts = _facts(path)
    note = _note(path)
    try:
        digest, _, kept = note.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
        if kept == facts and len(digest) == 64:
            return digest
    except (OSError, ValueError):
        pass
    digest = _hashed(path)
    if _facts(path) == facts and time.time() - path.stat().st_mtime > _SETTLED:
        cache_write(note, f"{digest}\n{facts}".encode("utf-8", "surrogateescape"), _KEPT)
    return digest


def _hashed(path: Path) -> str:
    import hashlib  # brings OpenSSL: 2 ms and 3 MiB that a second start does without

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(path: Path) -> str:
    found = path.stat()
    numbers = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
    return " ".join([*map(str, numbers), os.path.realpath(path)])


def _note(path: Path) -> Path:
    place = os.fsencode(os.path.realpath(path))
    return cache_folder() / "digests" / f"{zlib.crc32(place):08x}-{len(place)}"
