"""Classes that were learned on the device, from 1 to 20 photos each, without training.

A class is the mean direction of its photos in the space of ``edge_fgr.familiar``, where classes
are spread alike: the nearest class mean (Mensink et al., TPAMI 2013) by angle, with the metric of
linear discriminant analysis. With a gallery the trained classes are judged by the same angles, so
one scale holds for all; without one nothing changes.

A mean of few photos points less exactly than one of many. If two photos of a class have the cosine
r on average, the mean of n points within sqrt(n r / (1 + (n - 1) r)) of where all photos of the
class would point, and so much smaller is the cosine of every new photo to it: it is divided out.
r is counted from the class's own photos and pulled to what classes have as a rule.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_fgr.errors import GalleryError, InputMissingError, UsageError
from edge_fgr.gallery_store import (
    MOST_PHOTOS,
    Enrolled,
    Photo,
    Stored,
    add_photos,
    changing,
    read_store,
    without,
    write_store,
)
from edge_fgr.image import load, name_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.contract import Label
    from edge_fgr.familiar import Familiar
    from edge_fgr.model import Model

    Floats = npt.NDArray[np.floating]

__all__ = ["Gallery", "enroll", "forget", "label_of", "read_gallery"]

_SHARPNESS = 17.0
"""Factor of a cosine before the softmax: what fits best with ten enrolled classes."""

_USUAL = 0.5
"""Cosine of two photos of one class, as a rule."""

_PAIRS = 5
"""How many pairs of photos that rule is worth."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Enrolled classes that are ready to judge. Holds no mutable state.

    Attributes:
        labels: their paths, in the order of enrolment.
        familiar: the model's space.
        directions: float64 ``(K, R)``, one for each class; the reach of few photos is divided out.
        scale: from a cosine to a logit.
    """

    labels: tuple[Label, ...]
    familiar: Familiar
    directions: Floats
    scale: float

    def extend(self, logits: Floats, embedding: Floats) -> Floats:
        """Return logits ``(C + K,)``, float64: of the trained classes, then of the enrolled ones.

        Args:
            logits: ``(C,)`` of the model's head. As soon as there is an enrolled class, angles
                answer instead.
            embedding: ``(D,)``.
        """
        import numpy as np

        if not self.labels:
            return logits
        place = self.familiar.direction(embedding)
        rows = np.concatenate([self.familiar.classes @ place, self.directions @ place])
        assert len(rows) == len(logits) + len(self.labels)  # noqa: S101  read_gallery saw to it
        return rows * self.scale


def read_gallery(path: str | os.PathLike[str], model: Model) -> Gallery:
    """Read the classes that were enrolled with ``model``.

    Raises:
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        GalleryError: it is damaged, or of another model.
        ContractError: the model's file lacks what enrolment needs.
    """
    stored = read_store(path)
    _same_model(path, stored, model)
    return _opened(path, stored, model)


def enroll(
    path: str | os.PathLike[str], model: Model, label: Label, photos: Sequence[str]
) -> Enrolled:
    """Add photos of a class to a gallery, which is made if it is not there.

    Args:
        path: the gallery.
        model: whose embeddings it holds.
        label: a class that the model was not trained on; further photos of one that was enrolled
            before join the others.
        photos: files, 1 to 20 with those that are there.

    Returns:
        The class with all its photos.

    Raises:
        UsageError: the label cannot be meant, or there are too many photos.
        ImageError, InputMissingError, PermissionDeniedError: a photo cannot be read whole; then
            nothing is written.
        GalleryError: the gallery is damaged, or of another model.
        ContractError: the model's file lacks what enrolment needs.
        OutputError: the gallery cannot be written.
    """
    _check_label(label, model)
    if not photos:
        raise UsageError(f"{'/'.join(label)}: at least one photo is needed")
    if len(photos) > MOST_PHOTOS:
        raise UsageError(
            f"{len(photos)} photos; at most {MOST_PHOTOS} of a class can be enrolled; give fewer"
        )
    model.familiar()
    _stored(path, model)  # a gallery that cannot be meant is refused before any work, and no lock
    seen = [_photo(model, name) for name in photos]
    with changing(path):
        stored = add_photos(_stored(path, model), label, seen)
        write_store(path, stored)
    found = stored.find(label)
    assert found is not None  # noqa: S101  it was just added
    return found


def forget(path: str | os.PathLike[str], label: Label) -> Stored:
    """Take a class out of a gallery, and return what is left.

    Raises:
        UsageError: it holds no class of this name.
        InputMissingError, PermissionDeniedError, GalleryError, OutputError: as ``enroll``.
    """
    read_store(path)  # a lock is not left beside a gallery that is not there
    with changing(path):
        left = without(read_store(path), label)
        write_store(path, left)
    return left


def label_of(text: str) -> Label:
    """Return the path that ``Fruit/Apple/New`` or ``New Class`` means.

    Raises:
        UsageError: a name in it is empty.
    """
    label = tuple(part.strip() for part in text.split("/"))
    if not all(label) or not text.isprintable():
        raise UsageError(f"{text!r}: a class is a name, or names with / between, coarse to fine")
    return label


def _photo(model: Model, name: str) -> Photo:
    import hashlib

    from edge_fgr.decode import read_bytes

    data = read_bytes(name)
    pixels = load(data, model.contract.geometry, name=name)
    (embedding,) = model.outputs(pixels[None], "embedding")
    digest = hashlib.sha256(data).hexdigest()
    return Photo.of(os.path.basename(name_of(name)), digest, embedding[0])  # noqa: PTH119


def _stored(path: str | os.PathLike[str], model: Model) -> Stored:
    """Return what the gallery holds: nothing yet, if it is not there."""
    try:
        stored = read_store(path)
    except InputMissingError:
        return Stored(model.id, ())
    _same_model(path, stored, model)
    return stored


def _opened(path: str | os.PathLike[str], stored: Stored, model: Model) -> Gallery:
    import numpy as np

    familiar = model.familiar()
    width = familiar.basis.shape[1]
    directions = np.zeros((len(stored.classes), len(familiar.centre)))
    for i, one in enumerate(stored.classes):
        embeddings = [photo.values() for photo in one.photos]
        if any(len(values) != width for values in embeddings):
            raise GalleryError(
                f"{os.fspath(path)}: the embeddings of {'/'.join(one.label)} are not of this "
                "model; enroll it again"
            )
        rows = np.stack([familiar.direction(values) for values in embeddings])
        mean = rows.mean(axis=0)
        directions[i] = mean / (np.linalg.norm(mean) or 1.0) / _reach(rows)
    scale = _SHARPNESS * model.contract.temperature
    return Gallery(tuple(one.label for one in stored.classes), familiar, directions, scale)


def _reach(rows: Floats) -> float:
    """Return by how much the mean of these photos falls short: 0 to 1."""
    import numpy as np

    count = len(rows)
    pairs = count * (count - 1) / 2
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    total = unit.sum(axis=0)
    alike = (float(total @ total) - count) / 2  # sum of the cosines of all pairs
    r = max(0.1, (alike + _PAIRS * _USUAL) / (pairs + _PAIRS))
    return float(np.sqrt(count * r / (1 + (count - 1) * r)))


def _check_label(label: Label, model: Model) -> None:
    trained = model.contract.labels
    text = "/".join(label)
    if label in trained:
        raise UsageError(f"{text}: the model was trained on this class; give another name")
    if any(other[: len(label)] == label for other in trained):
        raise UsageError(f"{text}: is a group of classes of the model; add a name below it")
    deepest = max(map(len, trained))
    if len(label) > deepest:
        raise UsageError(
            f"{text}: the model's labels have at most {deepest} names; give a shorter path"
        )


def _same_model(path: str | os.PathLike[str], stored: Stored, model: Model) -> None:
    if stored.model.digest != model.id.digest:
        raise GalleryError(
            f"{os.fspath(path)}: was made with {stored.model.name} version {stored.model.version}, "
            f"another file than {model.path}; enroll again with this model"
        )
