"""What a run of ``edge-fgr bench`` found, as one JSON document: raw samples and their sources.

Figures are computed from the samples by ``edge_fgr_bench.summary``, so that a document of today can
be judged by a later rule. Shares are 0 to 1, times are in the units of their names. A candidate is
one model on one device; its key is a letter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edge_fgr.contract import Label, build
from edge_fgr.errors import ContractError, DataError, InputMissingError, PermissionDeniedError
from edge_fgr_bench.answers import Accuracy, Robustness
from edge_fgr_bench.samples import Latency

__all__ = [
    "KIND",
    "SCHEMA",
    "Candidate",
    "Document",
    "Host",
    "Images",
    "Part",
    "Settings",
    "given_bytes",
    "read_document",
]

SCHEMA = 1
"""Grows when a key changes its meaning or goes."""

KIND = "edge-fgr bench"

Part = Literal["latency", "accuracy", "robustness"]


@dataclass(frozen=True, slots=True)
class Host:
    """The machine.

    Attributes:
        cpu: its name.
        machine: kind of processor, as ``uname -m`` gives it.
        features: abilities that kernels are chosen by, such as ``avx512``.
        processors: how many this process may use.
        memory_mib: of the machine; None where nobody knows.
        system: name and release.
        governor: of the clock; None where it cannot be read.
        versions: releases by package, ``python`` and ``edge-fgr`` among them.
    """

    cpu: str
    machine: str
    features: tuple[str, ...]
    processors: int
    memory_mib: int | None
    system: str
    governor: str | None
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for.

    Attributes:
        parts: which parts.
        threads: inside one inference.
        queries: at least so many are timed for each candidate.
        seconds: and at least so long.
        cold_runs: whole processes for each candidate.
        corruption_images: images for each corruption and severity.
        seed: of the choice of images and of the corruptions.
        splits: of the images, the only ones taken; empty: all.
    """

    parts: tuple[Part, ...]
    threads: int
    queries: int
    seconds: float
    cold_runs: int
    corruption_images: int
    seed: int
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Images:
    """The images.

    Attributes:
        source: what was given.
        count: how many could be read.
        labelled: how many have a truth.
        digest: SHA-256 over their names and contents, in hexadecimal.
        broken: a line for each file that could not be read.
    """

    source: str
    count: int
    labelled: int
    digest: str
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model on one device.

    Attributes:
        key: ``A``, ``B``, …
        file: as given.
        name, version, digest: of the model.
        target: of its contract: ``fp32``, ``portable``, …
        bytes: of the file.
        size: side of the input, in pixels.
        labels: its classes.
        asked: the device that was asked for.
        device: what really ran; empty where nothing did.
        provider: onnxruntime's name for that.
        share: share of the convolutions and matrix products that ran there.
    """

    key: str
    file: str
    name: str
    version: int
    digest: str
    target: str
    bytes: int
    size: int
    labels: tuple[Label, ...]
    asked: str
    device: str
    provider: str
    share: float


@dataclass(frozen=True, slots=True)
class Document:
    """A run.

    Attributes:
        schema_version: ``SCHEMA``.
        kind: ``KIND``.
        complete: whether it ran to its end.
        made: when it began, UTC, ISO 8601.
        seconds: how long it took.
        title: of the report.
        missing: a sentence for whatever could not be measured.
        command: the line that made it.
        note: what whoever measured has to say.
    """

    schema_version: int
    kind: str
    complete: bool
    made: str
    seconds: float
    title: str
    host: Host
    settings: Settings
    images: Images
    candidates: tuple[Candidate, ...]
    latency: tuple[Latency, ...] = ()
    accuracy: Accuracy | None = None
    robustness: Robustness | None = None
    missing: tuple[str, ...] = ()
    command: str = ""
    note: str = ""

    def to_json(self) -> str:
        """Return the document on one line, ASCII: names that are not valid UTF-8 survive."""
        return json.dumps(asdict(self), separators=(",", ":"))


def given_bytes(path: Path, what: str) -> bytes:
    """Return the content of a file that an argument names.

    Args:
        path: the file.
        what: what should have been given.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
    """
    try:
        return path.read_bytes()
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputMissingError(f"{path}: no such file; give {what}") from None
    except OSError as error:
        raise InputMissingError(f"{path}: reading failed ({error.strerror}); give {what}") from None


def read_document(path: Path) -> Document:
    """Read a document strictly.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
        DataError: it is none of ours, is newer than this reader, or breaks a rule.
    """
    data = given_bytes(path, "what bench --json wrote")
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); give what bench --json wrote") from None
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise DataError(f"{path}: not a document of {KIND}; give what bench --json wrote")
    version = raw.get("schema_version")
    if version != SCHEMA:
        raise DataError(
            f"{path}: schema_version {version!r}, and this edge-fgr reads {SCHEMA}; "
            + ("update edge-fgr" if isinstance(version, int) and version > SCHEMA else "run again")
        )
    try:
        document: Document = build(Document, raw, "document")
    except ContractError as error:
        raise DataError(f"{path}: {error}") from None
    return document
