"""Which images two models are compared on, and what is on them, where that is known.

A ``.csv`` index and a public set ``NAME:FOLDER`` are labelled, always. A folder is labelled when
its class folders are classes of the model; when none of them is, it is just images. Files and
patterns are just images.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_fgr.contract import Label
from edge_fgr.errors import DataError, EdgeFgrError, InputMissingError, UsageError
from edge_fgr.progress import say
from edge_fgr.sources import STDIN, expand
from edge_fgr_export.verify import UNKNOWN
from edge_fgr_train.catalog import open_dataset, survey_dataset
from edge_fgr_train.dataset import Sample, printable
from edge_fgr_train.named import NAMES

__all__ = ["Pool", "gather"]


@dataclass(frozen=True, slots=True)
class Pool:
    """Images in the order of the arguments, each file once.

    Attributes:
        paths: the files; at least one.
        names: relative to the folder or index that they came from; else the file's name.
        targets: the right class of each as a number of the model's labels, or ``UNKNOWN``.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    targets: tuple[int, ...]


_Found = tuple[Path, str, Label | None]


def gather(
    arguments: Sequence[str],
    labels: Sequence[Label],
    splits: Sequence[str] = (),
    *,
    labelled: bool = False,
) -> Pool:
    """Find the images.

    Args:
        arguments: files, patterns, folders, indexes and public sets, as above.
        labels: classes of the model.
        splits: of labelled data, the only ones to take; without any, all.
        labelled: refuse images whose right class is not known.

    Raises:
        InputMissingError, PermissionDeniedError: something is not there, or may not be read.
        DataError: an image under two labels, or under one that the model does not have.
        UsageError: the data cannot be meant so; splits of what is not labelled, or no labels
            where all must have one.
        MissingExtraError: a package that a public set needs is not installed.
    """
    known, found, twice = {*labels}, {}, 0
    for argument in arguments:
        for path, name, label in _of(argument, known, splits):
            key = os.path.realpath(path)
            if key not in found:
                found[key] = (path, name, label)
                continue
            twice += 1
            earlier = found[key][2]
            if None not in (earlier, label) and earlier != label:
                both = " and ".join("/".join(part) for part in (earlier, label) if part)
                raise DataError(f"{path}: labelled both {both}; keep one")
            found[key] = (path, name, label) if earlier is None else found[key]
    if not found:
        raise InputMissingError("no images; give files, or folders that hold some")
    if twice:
        say(f"{twice} images are given more than once; each counts once")
    bare = [path for path, _, label in found.values() if label is None]
    if labelled and bare:
        if not bare[0].exists():
            raise InputMissingError(f"{bare[0]}: no such data; check the path")
        raise UsageError(
            f"{bare[0]}: {len(bare)} of {len(found)} images have no label; give class folders of "
            "the model's labels, or a .csv index"
        )
    place = {label: i for i, label in enumerate(labels)}
    paths, names, truths = zip(*found.values(), strict=True)
    return Pool(paths, names, tuple(UNKNOWN if t is None else place[t] for t in truths))


def _of(argument: str, known: Collection[Label], splits: Sequence[str]) -> list[_Found]:
    if argument == STDIN:
        raise UsageError("-: an image is read by both models; give it as a file")
    path = Path(argument)
    named = argument.partition(":")[0].lower() in {name.lower() for name in NAMES}
    if (named and not path.exists()) or (path.suffix.lower() == ".csv" and not path.is_dir()):
        samples = open_dataset(argument, splits or None).samples
        return _labelled(argument, samples, known)
    if path.is_dir():
        return _folder(argument, known, splits)
    if splits:
        raise UsageError(f"{argument}: --split is for labelled data, and this is none")
    return [(file, file.name, None) for file in _files(argument)]


def _folder(argument: str, known: Collection[Label], splits: Sequence[str]) -> list[_Found]:
    try:
        dataset, problems = survey_dataset(argument, splits or None)
    except UsageError:  # images, but none in a class
        if splits:
            raise
    else:
        if splits or any(sample.label in known for sample in dataset.samples):
            if problems:
                raise problems[0]
            return _labelled(argument, dataset.samples, known)
    files = _files(argument)
    say(f"{argument}: no class of the model has its folder there; taken as images without labels")
    return [(file, file.relative_to(argument).as_posix(), None) for file in files]


def _labelled(argument: str, samples: Sequence[Sample], known: Collection[Label]) -> list[_Found]:
    strange = sorted({sample.label for sample in samples if sample.label not in known})
    if strange:
        first = printable("/".join(strange[0]))
        raise DataError(
            f"{argument}: {len(strange)} of its classes are none of the model's, first {first}; "
            "leave them out (verify takes images without labels as files)"
        )
    return [(sample.path, sample.name, sample.label) for sample in samples]


def _files(argument: str) -> list[Path]:
    files: list[Path] = []
    for item in expand([argument], recursive=True):
        if isinstance(item, EdgeFgrError):
            raise item
        files.append(Path(item))
    return files
