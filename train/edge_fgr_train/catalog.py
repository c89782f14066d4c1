"""Labelled photographs by one text: a folder, a CSV index, or a public set as ``NAME:ROOT``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError, UsageError
from edge_fgr.progress import say
from edge_fgr.sources import is_image_name
from edge_fgr_train.dataset import Dataset, Sample, holds_images, printable, survey
from edge_fgr_train.index import read_index, write_index
from edge_fgr_train.named import NAMES, read_named

__all__ = ["open_dataset", "survey_dataset", "write_index"]

_FOLDERS = ("train", "val", "valid", "validation", "test")
"""Subfolders that are splits, when there is a ``train``."""

_FIRST = ("train", "trainval", *_FOLDERS[1:])
"""Splits of an index in the order that they are taken in; any others follow."""


def open_dataset(spec: str | Path, splits: Sequence[str] | None = None) -> Dataset:
    """Open a data set.

    Args:
        spec: one of

            - a folder: nested class folders, below ``train``, ``val``, ``valid``, ``validation``
              and ``test`` when there is a ``train``;
            - a ``.csv`` file: see ``edge_fgr_train.index``;
            - ``NAME:ROOT``: what torchvision keeps in ROOT under one of ``named.NAMES``.
        splits: the only ones to open: subfolders of a folder (``a/b`` too), or what the index or
            the public set calls them.

    Raises:
        InputMissingError, PermissionDeniedError: something is not there, or may not be read.
        MissingExtraError: a package that the public set needs is not installed.
        UsageError: the data cannot be meant so: empty classes, images outside of classes,
            strange columns, an image under two labels or in two splits.
    """
    dataset, problems = survey_dataset(spec, splits)
    if problems:
        raise problems[0]
    return dataset


def survey_dataset(
    spec: str | Path, splits: Sequence[str] | None = None
) -> tuple[Dataset, list[EdgeFgrError]]:
    """Open a data set as far as it goes: what is sound, and all that ``open_dataset`` refuses.

    Raises:
        EdgeFgrError: as ``open_dataset``, where nothing is left to look at.
    """
    text = str(spec)
    name, _, rest = text.partition(":")
    public = {known.lower(): known for known in NAMES}.get(name.lower())
    path = Path(os.path.abspath(Path(rest).expanduser() if public else text))  # noqa: PTH100
    origin = f"{public}:{path}" if public else str(path)
    if public:
        found = read_named(public, path)
    elif path.suffix.lower() == ".csv" and not path.is_dir():
        found = read_index(path)
    else:
        if not path.is_dir() and ":" in text:
            raise InputMissingError(f"{text}: no folder, nor one of {', '.join(NAMES)}")
        try:
            splits = _folders(path) if splits is None else splits
            found = survey(path, splits)
        except PermissionError as error:
            cause = f"{error.filename}: may not be read; check its permissions"
            raise PermissionDeniedError(cause) from None
    samples, problems = _sound(found)
    known = dict.fromkeys(sample.split for sample in samples if sample.split)
    order = [split for split in _FIRST if split in known]
    order += [split for split in known if split not in order]
    if splits is not None:
        strange = [split for split in splits if split and split not in known]
        if strange and not problems:
            raise UsageError(f"{origin}: has no split {strange[0]}; known: {', '.join(order)}")
        order = [split for split in splits if split in known]
        samples = [sample for sample in samples if sample.split in order or not known]
    if not samples:
        raise (problems or [InputMissingError(f"{origin}: holds no images; add some")])[0]
    return Dataset(origin, tuple(order), tuple(samples)), problems


def _folders(root: Path) -> list[str]:
    """Return the splits of a folder, and say what stands beside them."""
    if not (root / "train").is_dir():
        return []
    found = [name for name in _FOLDERS if (root / name).is_dir()]
    beside = [
        path.name
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name not in found and not path.name.startswith(".")
        if holds_images(path)
    ]
    if any(is_image_name(path.name) for path in root.iterdir()):
        beside.append("the images beside them")
    if beside:
        names = ", ".join(map(printable, beside))
        say(f"{root}: only {', '.join(found)} are read; left out: {names}")
    return found


def _sound(found: Iterable[Sample | EdgeFgrError]) -> tuple[list[Sample], list[EdgeFgrError]]:
    """Part samples and errors; every name once."""
    samples: dict[str, Sample] = {}
    problems: list[EdgeFgrError] = []
    for item in found:
        if isinstance(item, EdgeFgrError):
            problems.append(item)
            continue
        known = samples.setdefault(item.name, item)
        if known.label != item.label:
            both = " and ".join("/".join(label) for label in (known.label, item.label))
            problems.append(UsageError(f"{item.path}: labelled both {both}; keep one"))
        elif known.split != item.split:
            both = f"{known.split} and {item.split}"
            problems.append(UsageError(f"{item.path}: stands in both {both}; keep it in one"))
    return list(samples.values()), problems
