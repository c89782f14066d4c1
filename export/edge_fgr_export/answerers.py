"""Whatever answers for image files with logits: a run, a model file, or logits kept from before.

Each makes its pixels by its own contract, through ``edge_fgr.image``; where two have one geometry,
an image is decoded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Contract, Geometry, Label
from edge_fgr.errors import (
    ContractError,
    DeviceError,
    InputMissingError,
    MissingExtraError,
    UsageError,
)
from edge_fgr.model import Device, Model, open_model
from edge_fgr.prediction import ModelId
from edge_fgr.progress import progress
from edge_fgr_export.golden import digest_of_file, read_golden
from edge_fgr_train.batches import batches

__all__ = ["Answerer", "Kind", "aligned", "answers", "open_answerer"]

Floats = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[np.uint8]], Floats]
"""Pixels uint8 ``(N, H, W, 3)`` to logits float32 ``(N, C)``."""

Kind = Literal["checkpoint", "onnx", "tflite", "golden"]


@dataclass(frozen=True, slots=True)
class Answerer:
    """One side of a comparison.

    Attributes:
        name: what it was asked for by.
        kind: what that is.
        id: name and version of the model, SHA-256 of its file (of a run: of its weights).
        target: of its contract: ``fp32``, ``portable``, …
        device: what really runs, or ran.
        labels: class i of the logits.
        temperature: divisor of the logits before the softmax.
        geometry: from file to pixels; None for golden logits.
        run: None for golden logits.
        rows: golden logits ``(C,)`` by the SHA-256 of the image file; else empty.
        contract: what it says about itself; None for golden logits.
        model: the open file of kind ``onnx``; else None.
    """

    name: str
    kind: Kind
    id: ModelId
    target: str
    device: str
    labels: tuple[Label, ...]
    temperature: float
    geometry: Geometry | None = None
    run: Run | None = field(default=None, repr=False)
    rows: Mapping[str, Floats] = field(default_factory=dict, repr=False)
    contract: Contract | None = field(default=None, repr=False)
    model: Model | None = field(default=None, repr=False)


class _Tflite(Protocol):
    """What ``edge_fgr_export.litert.open_tflite`` gives."""

    @property
    def contract(self) -> Contract: ...

    @property
    def digest(self) -> str: ...

    def run(self, pixels: npt.NDArray[np.uint8]) -> Floats: ...


def open_answerer(name: str, device: str = "auto") -> Answerer:
    """Open one side.

    Args:
        name: the folder of a run, a ``.onnx`` file or the name of an embedded model, a
            ``.tflite`` file, or golden logits (``.npz``).
        device: ``auto``, ``cpu`` or ``cuda``; never a silent fallback.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
        ModelError, ContractError: it is damaged, or nothing of ours.
        DeviceError, MissingExtraError: this machine lacks what it needs.
        UsageError: the device is not known, or cannot be chosen.
    """
    if device not in get_args(Device):
        raise UsageError(f"device {device!r} is not known; known: {', '.join(get_args(Device))}")
    path = Path(name)
    if path.is_dir():
        return _checkpoint(name, path, device)
    if path.suffix in (".safetensors", ".pt", ".pth"):
        raise InputMissingError(f"{name}: give the folder of the run, not a file in it")
    if path.suffix == ".npz":
        return _golden(name, path, device)
    if path.suffix == ".tflite":
        return _tflite(name, path, device)
    model = open_model(name, device=cast("Device", device))
    side = _by(name, "onnx", model.contract, model.id.digest, model.device, model.run)
    return replace(side, model=model)


def answers(sides: Sequence[Answerer], paths: Sequence[Path], work: str = "verify") -> list[Floats]:
    """Return for each side its logits ``(len(paths), C)``; at least one path.

    ``work`` is what progress is shown of.

    Raises:
        InputMissingError, PermissionDeniedError, ImageError: an image cannot be read.
        InputMissingError: golden logits lack an image with this content.
        ModelError: inference failed.
    """
    found: list[list[Floats]] = [[] for _ in sides]
    if any(side.run is None for side in sides):
        digests = [digest_of_file(path) for path in paths]
        for side, rows in zip(sides, found, strict=True):
            if side.run is None:
                rows.append(_kept(side, paths, digests))
    geometries = dict.fromkeys(side.geometry for side in sides if side.geometry)
    with progress(len(geometries) * len(paths), work) as advance:
        for geometry in geometries:
            for pixels in batches(paths, geometry):
                for side, rows in zip(sides, found, strict=True):
                    if side.run and side.geometry == geometry:
                        rows.append(side.run(pixels))
                advance(len(pixels), "")
    return [np.concatenate(rows) for rows in found]


def aligned(reference: Answerer, candidate: Answerer) -> npt.NDArray[np.intp]:
    """Return for each class of the reference its place among the candidate's ``(C,)``.

    Raises:
        ContractError: they have different classes.
    """
    place = {label: i for i, label in enumerate(candidate.labels)}
    lacks = [label for label in reference.labels if label not in place]
    more = [label for label in candidate.labels if label not in {*reference.labels}]
    if lacks or more:
        parts = [
            f"{what} {len(labels)}, first {' > '.join(labels[0])}"
            for what, labels in (("lacks", lacks), ("has beyond them", more))
            if labels
        ]
        raise ContractError(
            f"{candidate.name}: has other classes than {reference.name} ({'; '.join(parts)}); "
            "compare models of the same classes"
        )
    return np.array([place[label] for label in reference.labels], np.intp)


def _by(name: str, kind: Kind, contract: Contract, digest: str, device: str, run: Run) -> Answerer:
    return Answerer(
        name=name,
        kind=kind,
        id=ModelId(contract.name, contract.version, digest),
        target=contract.target,
        device=device,
        labels=contract.labels,
        temperature=contract.temperature,
        geometry=contract.geometry,
        run=run,
        contract=contract,
    )


def _checkpoint(name: str, folder: Path, device: str) -> Answerer:
    from edge_fgr_train.checkpoint import Run as Made
    from edge_fgr_train.checkpoint import load_head, load_network
    from edge_fgr_train.linear import LinearHead
    from edge_fgr_train.network import device_of

    made = Made.read(folder)
    if made.base:  # a chain on an exported model: its head, on that model's embeddings
        weight, bias, contract = load_head(folder)
        base = open_model(folder / made.base, device=cast("Device", device))
        head = LinearHead(weight, bias, made.recipe.model.l2)

        def behind(pixels: npt.NDArray[np.uint8]) -> Floats:
            return head(base.outputs(pixels, "embedding")[0]).astype(np.float32)

        return _by(name, "checkpoint", contract, _digest(folder), base.device, behind)
    import torch

    place = device_of(device)
    network, contract, _ = load_network(folder)
    network.to(place)

    def run(pixels: npt.NDArray[np.uint8]) -> Floats:
        with torch.inference_mode():
            logits: Floats = (
                network(torch.from_numpy(pixels).to(place)).logits.float().cpu().numpy()
            )
        return logits

    return _by(name, "checkpoint", contract, _digest(folder), place.type, run)


def _digest(folder: Path) -> str:
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _golden(name: str, path: Path, device: str) -> Answerer:
    if device != "auto":
        raise UsageError(f"{name}: golden logits were computed already; leave the device out")
    golden = read_golden(path)
    about = golden.about
    return Answerer(
        name=name,
        kind="golden",
        id=ModelId(about.model, about.version, about.digest),
        target=about.target,
        device=about.device,
        labels=golden.labels,
        temperature=about.temperature,
        rows=golden.rows,
    )


def _tflite(name: str, path: Path, device: str) -> Answerer:
    if not path.exists():
        raise InputMissingError(f"{name}: no such model; check the path")
    if device == "cuda":
        raise DeviceError(f"cuda: {name} runs on the CPU only; choose cpu")
    try:
        litert: Any = import_module("edge_fgr_export.litert")
        model: _Tflite = litert.open_tflite(path)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name}: the package {error.name} is missing; install it to run .tflite files"
        ) from None
    return _by(name, "tflite", model.contract, model.digest, "cpu", model.run)


def _kept(side: Answerer, paths: Sequence[Path], digests: Sequence[str]) -> Floats:
    missing = [path for path, digest in zip(paths, digests, strict=True) if digest not in side.rows]
    if missing:
        raise InputMissingError(
            f"{missing[0]}: {side.name} holds no logits of an image with this content "
            f"({len(missing)} of {len(paths)} images); give the images that it was made of"
        )
    return np.stack([side.rows[digest] for digest in digests])
