"""Nested folders of photographs: a folder that holds images is a class, its path is its label."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_fgr.contract import Label
from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.sources import is_image_name

__all__ = ["Sample", "class_of", "digest_of", "labels_of", "read_list", "scan"]


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One photograph. ``name`` is its path relative to the data folder, with ``/``."""

    name: str
    path: Path
    label: Label


def scan(root: Path, splits: Sequence[str] = ()) -> list[Sample]:
    """List the images below ``root/<split>`` (or ``root`` itself) in a fixed order.

    Raises:
        InputMissingError: a folder is missing or holds no image.
        UsageError: a folder holds both images and classes.
    """
    samples: list[Sample] = []
    for split in splits or ("",):
        top = root / split
        if not top.is_dir():
            raise InputMissingError(f"{top}: no such folder; give one with a folder per class")
        found = sorted(_walk(top, root))
        if not found:
            raise InputMissingError(f"{top}: holds no images; give one with a folder per class")
        samples += found
    return samples


def _walk(top: Path, root: Path) -> Iterable[Sample]:
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        label = here.relative_to(top).parts
        images = [name for name in names if is_image_name(name)]
        if not images or not label:
            if images:
                raise UsageError(f"{here}: images outside any class; move them into class folders")
            continue
        if any(_holds_images(here / name) for name in subfolders):
            raise UsageError(f"{here}: holds both images and classes; move the images into a class")
        for name in images:
            path = here / name
            yield Sample(path.relative_to(root).as_posix(), path, label)


def _holds_images(folder: Path) -> bool:
    return any(is_image_name(name) for _, _, names in os.walk(folder) for name in names)


def class_of(name: str, splits: Sequence[str]) -> Label:
    """Return the class of an image by its name: its folder, below the split it stands in."""
    folders = tuple(name.split("/")[:-1])
    for split in splits:
        above = tuple(part for part in split.split("/") if part)
        if above and folders[: len(above)] == above:
            return folders[len(above) :]
    return folders


def labels_of(samples: Iterable[Sample]) -> tuple[Label, ...]:
    """Return the classes, sorted."""
    return tuple(sorted({sample.label for sample in samples}))


def digest_of(samples: Collection[Sample]) -> str:
    """SHA-256 over the relative names and contents of the images, in the order of their names."""
    whole = hashlib.sha256()
    for sample in sorted(samples):
        whole.update(sample.name.encode() + b"\0")
        whole.update(hashlib.sha256(sample.path.read_bytes()).digest())
    return whole.hexdigest()


def read_list(path: Path) -> frozenset[str]:
    """Read a list of relative file names: one a line, ``#`` starts a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise InputMissingError(f"{path}: no such list of files") from None
    return frozenset(line.strip() for line in lines if line.strip() and line[0] != "#")
