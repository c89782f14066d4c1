"""Labelled photographs. Of nested folders one that holds images is a class, its path the label."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_fgr.contract import Label
from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError, UsageError
from edge_fgr.sources import is_image_name

__all__ = [
    "Dataset",
    "Sample",
    "counts_of",
    "digest_of",
    "holds_images",
    "labels_of",
    "printable",
    "read_list",
    "scan",
    "survey",
    "targets_of",
]


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One photograph.

    Attributes:
        name: its path relative to the data, with ``/``; no other sample of the dataset has it.
        path: where the file is.
        label: its class, coarse to fine.
        split: which part of the data it belongs to; empty where the data has no parts.
    """

    name: str
    path: Path
    label: Label
    split: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Photographs in a fixed order.

    Attributes:
        origin: text that ``edge_fgr_train.catalog.open_dataset`` opens again from any folder.
        splits: the parts, in order, the one to train on first; empty where the data has none.
        samples: all of them.
    """

    origin: str
    splits: tuple[str, ...]
    samples: tuple[Sample, ...]

    def of(self, *splits: str) -> list[Sample]:
        """Return the samples of some splits, in the order of the splits; without any, all.

        Raises:
            UsageError: the data has no such split.
        """
        if strange := [split for split in splits if split not in self.splits]:
            known = ", ".join(self.splits) or "none"
            raise UsageError(f"{self.origin}: has no split {strange[0]}; known: {known}")
        if not splits:
            return list(self.samples)
        return [sample for split in splits for sample in self.samples if sample.split == split]


def scan(root: Path, splits: Sequence[str] = ()) -> list[Sample]:
    """List the images below ``root/<split>`` (or ``root`` itself) in a fixed order.

    Raises:
        InputMissingError: a folder is missing or holds no image.
        PermissionDeniedError: a folder may not be read.
        UsageError: a folder holds both images and classes, or neither; a name is not UTF-8.
    """
    samples: list[Sample] = []
    for found in survey(root, splits):
        if isinstance(found, EdgeFgrError):
            raise found
        samples.append(found)
    return samples


def survey(root: Path, splits: Sequence[str] = ()) -> list[Sample | EdgeFgrError]:
    """List the same images as ``scan``, with an error in the place of each thing it would refuse.

    Hidden files and folders are ignored; links to folders are followed.
    """
    found: list[Sample | EdgeFgrError] = []
    for split in splits or ("",):
        top = root / split
        if Path(split).is_absolute() or ".." in Path(split).parts:
            found.append(UsageError(f"{split}: no split of {root}; name a folder inside it"))
            continue
        if not top.is_dir():
            found.append(
                InputMissingError(f"{top}: no such folder; give one with a folder per class")
            )
            continue
        here = list(_walk(top, root, split))
        samples = sorted(item for item in here if isinstance(item, Sample))
        problems = [item for item in here if isinstance(item, EdgeFgrError)]
        if not here:
            problems.append(
                InputMissingError(f"{top}: holds no images; give one with a folder per class")
            )
        found += [*problems, *samples]
    return found


def _walk(top: Path, root: Path, split: str) -> Iterator[Sample | EdgeFgrError]:
    failed: list[OSError] = []
    for folder, subfolders, names in os.walk(top, onerror=failed.append, followlinks=True):
        here = Path(folder)
        subfolders[:] = sorted(name for name in subfolders if _is_entered(here, name))
        label = here.relative_to(top).parts
        images = [name for name in names if is_image_name(name)]
        if not images:
            if label and not subfolders:
                yield UsageError(f"{here}: an empty class; add photos or remove the folder")
        elif not label:
            yield UsageError(f"{here}: images outside any class; move them into class folders")
        elif any(holds_images(here / name) for name in subfolders):
            yield UsageError(f"{here}: holds both images and classes; move the images into a class")
        else:
            for name in images:
                path = here / name
                relative = path.relative_to(root).as_posix()
                if _is_utf8(relative):
                    yield Sample(relative, path, label, split)
                else:  # it could stand in no list, no index and no contract
                    yield UsageError(f"{path}: a name that is not UTF-8; rename it")
    for error in failed:
        cause = f"{error.filename}: folder may not be read ({error.strerror})"
        yield PermissionDeniedError(f"{cause}; check its permissions")


def _is_entered(here: Path, name: str) -> bool:
    """Whether a subfolder is walked: not a hidden one, nor a link back to where we came from."""
    path = here / name
    if name.startswith(".") or not path.is_symlink():
        return not name.startswith(".")
    target = path.resolve()
    return all(above.resolve() != target for above in (here, *here.parents))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def holds_images(folder: Path) -> bool:
    """Whether there is an image in the folder or below, hidden ones left out."""
    for _, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if any(is_image_name(name) for name in names):
            return True
    return False


def labels_of(samples: Iterable[Sample]) -> tuple[Label, ...]:
    """Return the classes, sorted."""
    return tuple(sorted({sample.label for sample in samples}))


def targets_of(samples: Iterable[Sample], labels: Sequence[Label]) -> list[int]:
    """Return the place of each sample's class among ``labels``."""
    place = {label: i for i, label in enumerate(labels)}
    return [place[sample.label] for sample in samples]


def counts_of(samples: Iterable[Sample], labels: Sequence[Label]) -> list[int]:
    """Return the number of images of each of ``labels``."""
    counted = Counter(sample.label for sample in samples)
    return [counted[label] for label in labels]


def digest_of(samples: Collection[Sample]) -> str:
    """SHA-256 over the relative names and contents of the images, in the order of their names.

    A label that is not simply the folder below the split counts too: so a relabelled index has
    another digest, and nested folders the one they always had.
    """
    whole = hashlib.sha256()
    for sample in sorted(samples):
        whole.update(sample.name.encode() + b"\0")
        if PurePosixPath(sample.name).parent.parts != (*_parts(sample.split), *sample.label):
            whole.update(json.dumps(sample.label).encode() + b"\0")
        whole.update(hashlib.sha256(sample.path.read_bytes()).digest())
    return whole.hexdigest()


def _parts(split: str) -> tuple[str, ...]:
    return PurePosixPath(split).parts if split else ()


def read_list(path: Path) -> frozenset[str]:
    """Read a list of relative file names: one a line, ``#`` starts a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise InputMissingError(f"{path}: no such list of files") from None
    return frozenset(line.strip() for line in lines if line.strip() and line[0] != "#")


def printable(text: str) -> str:
    """Keep control characters of hostile names off the terminal, and a name on one line."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
