"""Golden logits: what a model said about images, in one ``.npz`` without pickle.

``logits`` float32 ``(N, C)``; ``names`` text ``(N,)``, for people; ``digests`` text ``(N,)``, the
SHA-256 of each image file in hexadecimal; ``labels`` text ``(C,)``, each a JSON list, coarse to
fine; ``about``: JSON of the model that said it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label, build
from edge_fgr.decode import read_bytes
from edge_fgr.errors import ContractError, InputMissingError, ModelError, PermissionDeniedError
from edge_fgr.files import atomic_path

__all__ = ["About", "Golden", "digest_of_file", "read_golden", "write_golden"]

Floats = npt.NDArray[np.float32]

_KEYS = {"logits", "names", "digests", "labels", "about"}
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class About:
    """The model that said it: the words of its contract, where it ran, SHA-256 of its file."""

    model: str
    version: int
    digest: str
    target: str
    device: str
    temperature: float = 1.0
    schema_version: int = _SCHEMA


@dataclass(frozen=True, slots=True)
class Golden:
    """Logits by image.

    Attributes:
        about: the model that said it.
        labels: class i of the logits.
        rows: logits float32 ``(C,)`` by the SHA-256 of the image file.
    """

    about: About
    labels: tuple[Label, ...]
    rows: Mapping[str, Floats]


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of an image file.

    Raises:
        InputMissingError, PermissionDeniedError, ImageError: as ``edge_fgr.image.load``.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


def write_golden(
    path: Path,
    about: About,
    labels: Sequence[Label],
    names: Sequence[str],
    digests: Sequence[str],
    logits: Floats,
) -> None:
    """Write golden logits; equal input gives equal bytes.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            logits=logits.astype(np.float32),
            names=np.array(names),
            digests=np.array(digests),
            labels=np.array([json.dumps(label, ensure_ascii=False) for label in labels]),
            about=np.array(json.dumps(asdict(about), ensure_ascii=False)),
        )


def read_golden(path: Path) -> Golden:
    """Read golden logits strictly.

    Raises:
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        ModelError: it is damaged, or holds something else.
    """
    try:
        with path.open("rb") as raw:
            if not zipfile.is_zipfile(raw):  # of other files numpy says how to load them unsafely
                raise ValueError("not an .npz file")
        with np.load(path, allow_pickle=False) as file:
            if {*file.files} != _KEYS:
                raise ValueError(f"its keys are not {', '.join(sorted(_KEYS))}")
            return _checked({key: file[key] for key in sorted(_KEYS)})
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except FileNotFoundError:
        raise InputMissingError(f"{path}: no such file; check the path") from None
    except (
        ContractError, EOFError, KeyError, MemoryError, OSError, TypeError, ValueError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"{path}: no golden logits ({cause}); make them with edge-fgr verify --golden"
        ) from None


def _checked(found: Mapping[str, npt.NDArray[Any]]) -> Golden:
    about = json.loads(str(found["about"][()]))
    if isinstance(about, dict) and about.get("schema_version") != _SCHEMA:
        raise ValueError(f"schema {about.get('schema_version')}, {_SCHEMA} is known")
    logits, labels = found["logits"], tuple(_label(text) for text in found["labels"].tolist())
    digests, names = found["digests"].tolist(), found["names"].tolist()
    if logits.dtype != np.float32 or logits.shape != (len(digests), len(labels)):
        raise ValueError(f"logits {logits.dtype} {logits.shape} do not fit digests and labels")
    if len(names) != len(digests) or len({*labels}) != len(labels) or not digests:
        raise ValueError("a name for each digest and every label once are needed")
    return Golden(build(About, about, "about"), labels, dict(zip(digests, logits, strict=True)))


def _label(text: object) -> Label:
    label = json.loads(str(text))
    if not isinstance(label, list) or not label or not all(isinstance(p, str) for p in label):
        raise ValueError(f"{text!r} is no label")
    return tuple(label)
