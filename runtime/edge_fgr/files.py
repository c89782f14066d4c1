"""Whole files or none: write beside, flush to disk, rename; and where caches live.

Standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_fgr.errors import OutputError, UsageError

__all__ = [
    "atomic_path",
    "atomic_write",
    "cache_folder",
    "cache_write",
    "check_outputs",
    "newest",
]


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``final``; on success flush it and rename it into place.

    Raises:
        OutputError: the folder cannot be written, or the disk is full. ``final`` is untouched.
    """
    import tempfile  # takes 3 ms, and who only reads a cache does not need it

    target = Path(final)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror})") from None
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        beside.unlink(missing_ok=True)


def atomic_write(final: str | os.PathLike[str], content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) under the name ``final``, whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(final) as beside:
        beside.write_bytes(data)


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[str]) -> None:
    """Refuse outputs that would be written over an input, over another output or over a folder.

    Args:
        outputs: files to write; None for one that was not asked for.
        inputs: names as they were given.

    Raises:
        UsageError: one would.
    """
    taken = {os.path.realpath(name) for name in inputs}
    for path in outputs:
        if path is None:
            continue
        if os.path.realpath(path) in taken:
            raise UsageError(f"{path}: is an input or another output; choose another name")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name the file to write")
        taken.add(os.path.realpath(path))


def cache_folder() -> Path:
    """Return the user's folder for what can be computed again; it may not exist yet.

    ``EDGE_FGR_CACHE``, else ``edge-fgr`` in the place that the system has for caches.
    """
    if own := os.environ.get("EDGE_FGR_CACHE"):
        return Path(own)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "edge-fgr"


def cache_write(path: Path, content: bytes, most: int) -> None:
    """Keep a file in a folder of ``most`` files of its kind; the oldest go.

    A cache is never an error: where it cannot be written, nothing happens.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(path, content)
        for old in newest(path.parent.glob(f"*{path.suffix}"))[most:]:
            old.unlink(missing_ok=True)
    except (OSError, OutputError):
        return


def newest(paths: Iterable[Path]) -> list[Path]:
    """Return the paths by their time of change, the latest first.

    Raises:
        OSError: one is gone, or may not be looked at.
    """
    return sorted(paths, key=os.path.getmtime, reverse=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
