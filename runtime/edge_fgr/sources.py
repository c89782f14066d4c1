"""What the command line's arguments mean: files, folders, patterns and ``-``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError

__all__ = ["STDIN", "SUFFIXES", "expand", "is_image_name", "walk"]

STDIN = "-"

SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm",
        ".png", ".ppm", ".qoi", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
"""What counts as an image file inside a folder, in lower case."""


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken from a folder; hidden files are not."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")  # noqa: PTH122


def walk(folder: str) -> Iterator[str | EdgeFgrError]:
    """Yield the image files below a folder, hidden folders left out, in a fixed order.

    Last come errors, one for each folder that could not be read.
    """
    failed: list[OSError] = []
    for here, folders, names in os.walk(folder, onerror=failed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_image_name(name):
                yield os.path.join(here, name)  # noqa: PTH118
    for error in failed:
        cause = f"{error.filename}: folder may not be read ({error.strerror})"
        yield PermissionDeniedError(f"{cause}; check its permissions")


def expand(arguments: Sequence[str], *, recursive: bool) -> list[str | EdgeFgrError]:
    """Return the files that the arguments mean, in their order, and an error for each that fails.

    A pattern is expanded here only when no file has its very name, so that shells without
    patterns work the same.
    """
    found: list[str | EdgeFgrError] = []
    for argument in arguments:
        try:
            is_folder = stat.S_ISDIR(os.stat(argument).st_mode)  # noqa: PTH116
        except (OSError, ValueError):
            is_folder = False
            if argument != STDIN and any(sign in argument for sign in "*?["):
                found += _matches(argument, recursive)
                continue
        if not is_folder:
            found.append(argument)
        elif not recursive:
            found.append(
                InputMissingError(f"{argument}: is a folder, not an image; add -r to classify it")
            )
        else:
            files = list(walk(argument))
            missing = InputMissingError(f"{argument}: holds no images; check the path")
            found += files or [missing]
    return found


def _matches(pattern: str, recursive: bool) -> list[str | EdgeFgrError]:
    from glob import glob

    names: list[str | EdgeFgrError] = []
    for match in sorted(glob(pattern, recursive=True)):  # noqa: PTH207
        if not os.path.isdir(match):  # noqa: PTH112
            names.append(match)
        elif recursive:
            names += walk(match)
    return [*names] or [InputMissingError(f"{pattern}: matches no file; check the pattern")]
