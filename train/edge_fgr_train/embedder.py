"""Anything that turns pixels into embeddings: a backbone, a run, or an exported model.

What it is and expects can be asked before torch is imported; weights are loaded at the first call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import InputMissingError, MissingExtraError
from edge_fgr.model import embedded, open_model
from edge_fgr_train.backbones import native_geometry, offline_weights
from edge_fgr_train.settings import Model

if TYPE_CHECKING:
    from edge_fgr_train.network import Network

__all__ = ["Embed", "Embedder", "open_embedder"]

Floats = npt.NDArray[np.float32]
Embed = Callable[[npt.NDArray[np.uint8]], Floats]
"""Pixels uint8 ``(N, H, W, 3)`` to embeddings float32 ``(N, D)``."""

_SCHEME = 1
"""Raise it when the same file and weights would give another embedding."""


@dataclass(frozen=True, slots=True)
class Embedder:
    """A source of embeddings.

    Attributes:
        name: what it was asked for by.
        geometry: from file to pixels.
        digest: SHA-256 over weights, geometry and versions: equal digests, equal embeddings but
            for the rounding of another processor.
        load: read the weights and return the function.
        origin: the backbone's name, the run's folder or the model's file.
        kind: which of these.
    """

    name: str
    geometry: Geometry
    digest: str
    kind: str
    origin: Path | str
    load: Callable[[], Embed] = field(repr=False)


def open_embedder(
    name: str,
    *,
    geometry: Geometry | None = None,
    device: str = "cpu",
    pool: Literal["mean", "gem", "levels"] = "mean",
    mirrors: int = 1,
) -> Embedder:
    """Find a source of embeddings.

    Args:
        name: a backbone's name, the folder of a run, a ``.onnx`` file, or the name of an embedded
            model.
        geometry: replaces the source's own; for backbones only.
        device: ``auto``, ``cpu`` or ``cuda``, for torch.
        pool: what becomes of a backbone's features; other sources have their own.
        mirrors: copies of a picture that a backbone looks at together; others have their own.

    Raises:
        MissingExtraError: it needs torch, or weights that are not installed.
        InputMissingError: neither a file nor a run of this name is there.
        UsageError: no backbone of this name is known.
        ModelError: the model or the run is damaged.
    """
    path = embedded().get(name, Path(name))
    if path.suffix == ".onnx":
        return _from_model(name, path)
    if find_spec("torch") is None:
        raise MissingExtraError(
            f"{name}: the package torch is missing; pip install 'edge-fgr[train]'"
        )
    if path.is_dir():
        return _from_run(name, path, device)
    if path.suffix in (".safetensors", ".pt", ".pth"):
        raise InputMissingError(f"{name}: give the folder of the run, not a file in it")
    model = Model(backbone=name, dropout=0.0, pool=pool, mirrors=mirrors)
    return _from_backbone(model, geometry or native_geometry(name), device)


def _from_model(name: str, path: Path) -> Embedder:
    model = open_model(path, device="cpu", threads=1)
    geometry = model.contract.geometry

    def load() -> Embed:
        return lambda pixels: model.outputs(pixels, "embedding")[0]

    return Embedder(
        name, geometry, _digest(model.id.digest, geometry, "onnxruntime"), "model", path, load
    )


def _from_run(name: str, folder: Path, device: str) -> Embedder:
    try:
        text = (folder / "contract.json").read_text(encoding="utf-8")
        weights = _file_digest(folder / "model.safetensors")
    except OSError:
        raise InputMissingError(
            f"{folder}: holds no finished run; make one with edge-fgr train"
        ) from None
    geometry = Contract.from_json(text).geometry

    def load() -> Embed:
        from edge_fgr_train.checkpoint import load_network

        return _embed_by(load_network(folder)[0], device)

    return Embedder(name, geometry, _digest(weights, geometry, "torch"), "run", folder, load)


def _from_backbone(model: Model, geometry: Geometry, device: str) -> Embedder:
    name = model.backbone
    path = offline_weights(name)
    # A library's weights are known by its version and the name: both decide what it fetches.
    origin = _file_digest(path) if path else "".join(map(_version, ("timm", "torchvision")))

    def load() -> Embed:
        from edge_fgr_train.network import build_network

        return _embed_by(build_network(model, 2, pretrained=True, size=geometry.size), device)

    what = f"{name} {origin}" + ("" if model.pool == "mean" else f" {model.pool}")
    what += "" if model.mirrors == 1 else f" mirrors {model.mirrors}"
    return Embedder(name, geometry, _digest(what, geometry, "torch"), "backbone", name, load)


def _embed_by(network: Network, device: str) -> Embed:
    import torch

    from edge_fgr_train.network import device_of

    place = device_of(device)
    network.eval().to(place)

    def embed(pixels: npt.NDArray[np.uint8]) -> Floats:
        with torch.inference_mode():
            own = np.require(pixels, requirements="W")  # one image may be read-only
            result: Floats = network(torch.from_numpy(own).to(place)).embedding.cpu().numpy()
        return result

    return embed


def _digest(weights: str, geometry: Geometry, engine: str) -> str:
    facts = [_SCHEME, weights, asdict(geometry), engine, _version(engine), _version("pillow")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
