"""The images of a run: found, read once to see that they can be, and their truths where known."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_fgr import image
from edge_fgr.contract import Geometry, Label
from edge_fgr.errors import EdgeFgrError, ImageError, InputMissingError, UsageError
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import one_line, progress
from edge_fgr.sources import STDIN, expand
from edge_fgr_bench.document import Images
from edge_fgr_train.catalog import survey_dataset
from edge_fgr_train.dataset import Sample
from edge_fgr_train.named import NAMES

__all__ = ["Pool", "find_images", "spread"]


@dataclass(frozen=True, slots=True)
class Pool:
    """Images that can be read.

    Attributes:
        paths: the files; at least one.
        names: relative to the folder or index that they came from.
        truths: what is on them; an empty path where it is not known.
        images: what the document says of them.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    truths: tuple[Label, ...]
    images: Images


_Found = tuple[Path, str, Label]


def find_images(source: str, splits: Sequence[str] = (), most: int | None = None) -> Pool:
    """Find the images and read each once.

    Args:
        source: a folder, a ``.csv`` index, a public set ``NAME:FOLDER``, a pattern or a file.
        splits: of labelled data, the only ones to take; without any, all.
        most: so many at most, evenly spread; None: all.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
        UsageError: the data cannot be meant so; splits of what is not labelled.
        ImageError: none of the images can be read.
    """
    found = _labelled(source, splits)
    if found is None:
        found = [(Path(name), _relative(name, source), ()) for name in _files(source, splits)]
    if most is not None:
        found = [found[place] for place in spread(len(found), most)]
    digest, kept, broken = hashlib.sha256(), [], []
    with progress(len(found), "bench: reading images") as advance:
        seen = ordered_map(lambda one: _look(one[0]), found, cores())
        for one, state in zip(found, seen, strict=True):
            if isinstance(state, EdgeFgrError):
                broken.append(one_line(state))
            else:
                kept.append(one)
                digest.update(one[1].encode(errors="surrogateescape") + b"\0" + state)
            advance(1, "")
    if not kept:
        raise ImageError(f"{source}: none of its {len(found)} images can be read: {broken[0]}")
    paths, names, truths = zip(*kept, strict=True)
    labelled = sum(bool(truth) for truth in truths)
    images = Images(source, len(paths), labelled, digest.hexdigest(), tuple(broken))
    return Pool(paths, names, truths, images)


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the places 0 to ``count`` - 1, evenly spread, in order."""
    if count <= most:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, most).tolist()]


def _labelled(source: str, splits: Sequence[str]) -> list[_Found] | None:
    """Return images with what is on them; None where they are just images."""
    path = Path(source)
    public = source.partition(":")[0].lower() in {name.lower() for name in NAMES}
    index = path.suffix.lower() == ".csv" and not path.is_dir()
    if not path.is_dir() and not index and not (public and not path.exists()):
        return None
    try:
        dataset, problems = survey_dataset(source, tuple(splits) or None)
    except UsageError:  # images, but none in a class
        if splits or index or public:
            raise
        return None
    if problems:
        if path.is_dir() and not splits:
            return None
        raise problems[0]
    return [_of(sample) for sample in _once(dataset.samples)]


def _of(sample: Sample) -> _Found:
    return sample.path, sample.name, sample.label


def _once(samples: Collection[Sample]) -> list[Sample]:
    return list({sample.path: sample for sample in samples}.values())


def _files(source: str, splits: Sequence[str]) -> list[str]:
    if source == STDIN:
        raise UsageError("-: an image is read many times; give it as a file")
    if splits:
        raise UsageError(f"{source}: --split is for labelled data, and this is none")
    files: list[str] = []
    for item in expand([source], recursive=True):
        if isinstance(item, EdgeFgrError):
            raise item
        files.append(item)
    if not files or not Path(files[0]).exists():
        raise InputMissingError(f"{source}: no images there; give a folder that holds some")
    return files


def _relative(name: str, source: str) -> str:
    path, folder = Path(name), Path(source)
    return path.relative_to(folder).as_posix() if folder.is_dir() else path.name


def _look(path: Path) -> bytes | EdgeFgrError:
    """Return the digest of a file that is read whole as an image; else why it is not."""
    try:
        image.read(path, _SMALL)
        return hashlib.sha256(path.read_bytes()).digest()
    except EdgeFgrError as error:
        return error
    except OSError as error:
        return ImageError(f"{path}: reading failed ({error.strerror})")


_SMALL = Geometry(size=32)
"""Reads as every model does, at the smallest scale."""
