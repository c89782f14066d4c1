"""Public data sets in the layout that torchvision downloads, through its own loaders.

The only module that knows them. Nothing is downloaded: torchvision says what is missing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_fgr.errors import EdgeFgrError, InputMissingError, MissingExtraError
from edge_fgr.progress import say
from edge_fgr_train.dataset import Sample

__all__ = ["NAMES", "read_named"]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What torchvision does not say about one of its sets: official splits, remedy, needs."""

    splits: tuple[str, ...]
    remedy: str = ""
    scipy: bool = False


_SETS = {
    "FGVCAircraft": _Rules(("train", "val", "test")),
    "Flowers102": _Rules(("train", "val", "test"), scipy=True),
    "Food101": _Rules(("train", "test")),
    "ImageNet": _Rules(
        ("train", "val"),
        "put ILSVRC2012_devkit_t12.tar.gz and ILSVRC2012_img_train.tar or …_val.tar there",
        scipy=True,
    ),
    "OxfordIIITPet": _Rules(("trainval", "test")),
    "StanfordCars": _Rules(
        ("train", "test"),
        "the folder stanford_cars must hold devkit/, cars_train/, cars_test/ and "
        "cars_test_annos_withlabels.mat",
        scipy=True,
    ),
}

NAMES = tuple(_SETS)


def read_named(name: str, root: Path) -> list[Sample | EdgeFgrError]:
    """List the images of all official splits, in the order of the splits.

    Labels are one level deep: torchvision's class names. A split that torchvision itself calls
    missing is left out with a line on stderr, as long as another is there.

    Args:
        name: one of ``NAMES``.
        root: absolute path of the folder that torchvision calls ``root``.

    Returns:
        Samples, and an error in the place of each whose file is missing.

    Raises:
        InputMissingError: the data is not there, or only partly.
        MissingExtraError: torchvision or scipy is not installed.
    """
    rules = _SETS[name]
    for package in ("torchvision", *(["scipy"] if rules.scipy else [])):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"{name}: the package {package} is missing; pip install 'edge-fgr[train]'"
            )
    opened: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for split in rules.splits:
        try:
            opened[split] = _open(name, root, split)
        except RuntimeError as error:  # torchvision's own word for what is not there
            absent[split] = " ".join(str(error).split())
        except Exception as error:  # half-extracted archives make its loaders raise anything
            raise InputMissingError(
                f"{name}:{root}: incomplete in {split} ({type(error).__name__}: {error}); "
                "extract the archives again"
            ) from None
    if not opened:
        remedy = rules.remedy or (
            f"torchvision.datasets.{name}({str(root)!r}, download=True) puts it there"
        )
        raise InputMissingError(f"{name}:{root}: {absent[rules.splits[0]]}; {remedy}")
    for split, cause in absent.items():
        say(f"{name}:{root}: {split} is left out ({cause})")
    names = _class_names(name, opened)
    return [
        found
        for split, loader in opened.items()
        for path, target in _items(name, loader)
        for found in [_sample(root, Path(path), names[split][target], split)]
    ]


def _open(name: str, root: Path, split: str) -> Any:
    from torchvision import datasets

    # OxfordIIITPet takes no loader and opens every picture that it is asked for.
    options = {} if name == "OxfordIIITPet" else {"loader": lambda path: path}
    if name != "ImageNet":  # which passes options on to a class that does not know the word
        options["download"] = False  # type: ignore[assignment]
    return getattr(datasets, name)(str(root), split=split, **options)


def _items(name: str, loader: Any) -> Iterator[tuple[str, int]]:
    """Yield path and class index; of OxfordIIITPet from its lists, since its items are pictures."""
    if name == "OxfordIIITPet":
        yield from zip(loader._images, loader._labels, strict=True)
    else:
        yield from (loader[i] for i in range(len(loader)))


def _class_names(name: str, opened: dict[str, Any]) -> dict[str, list[str]]:
    """Return the class names of each split; ImageNet's are tuples of synonyms, the first counts.

    Two synsets of ImageNet may share their first word (crane the bird, crane the machine): then
    both carry their WordNet id.
    """
    if name != "ImageNet":
        return {split: [str(word) for word in loader.classes] for split, loader in opened.items()}
    first = {
        wnid: words[0]
        for loader in opened.values()
        for wnid, words in zip(loader.wnids, loader.classes, strict=True)
    }
    count = Counter(first.values())
    return {
        split: [
            first[wnid] if count[first[wnid]] == 1 else f"{first[wnid]} ({wnid})"
            for wnid in loader.wnids
        ]
        for split, loader in opened.items()
    }


def _sample(root: Path, path: Path, word: str, split: str) -> Sample | EdgeFgrError:
    if not os.path.isfile(path):  # noqa: PTH113  never raises
        return InputMissingError(f"{path}: no such file; extract the archive again")
    return Sample(path.relative_to(root).as_posix(), path, (word,), split)
