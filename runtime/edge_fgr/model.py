"""One ``.onnx`` file: find it, open it, check it, choose a provider, run it.

Only this module and ``optimised`` import onnxruntime.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edge_fgr import optimised
from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import (
    ContractError,
    DeviceError,
    InputMissingError,
    ModelError,
    PermissionDeniedError,
    UsageError,
)
from edge_fgr.head import HEAD_KEY, Head, head_from_json
from edge_fgr.prediction import ModelId

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.image import Pixels

    Floats = npt.NDArray[np.float32]

__all__ = ["DEFAULT", "Device", "Model", "embedded", "find", "open_model"]

DEFAULT = "grocery81"
"""Name of the embedded model that is used when none is given."""

Device = Literal["auto", "cpu", "cuda"]

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True, slots=True)
class Model:
    """An open model. onnxruntime sessions may be run from many threads at once.

    Attributes:
        path: where it was read from.
        contract: what it says about itself.
        id: name, version and digest.
        device: what really runs: ``cpu`` or ``cuda``.
    """

    path: Path
    contract: Contract
    id: ModelId
    device: str
    session: Any

    def run(self, pixels: Pixels) -> Floats:
        """Return logits float32 ``(N, C)`` of uint8 pixels ``(N, size, size, 3)``."""
        return self.outputs(pixels, "logits")[0]

    def outputs(self, pixels: Pixels, *names: str) -> list[Floats]:
        """Return any of ``logits``, ``embedding`` ``(N, D)`` and ``features`` ``(N, D, h, w)``.

        Raises:
            ModelError: onnxruntime failed, for want of memory as a rule.
        """
        try:
            result: list[Floats] = self.session.run(list(names), {"pixels": pixels})
        except Exception as error:  # onnxruntime raises a class of its own per status
            cause = " ".join(str(error).split())[:200]
            raise ModelError(f"{self.path}: inference failed ({cause})") from None
        return result

    def head(self) -> Head:
        """Return the weights of the linear head.

        Raises:
            ContractError: the file does not carry them, or they do not fit its classes.
        """
        text = self.session.get_modelmeta().custom_metadata_map.get(HEAD_KEY)
        if text is None:
            raise ContractError(
                f"{self.path}: does not carry the weights of its head, which older exports lack; "
                "export it again"
            )
        try:
            head = head_from_json(text)
        except ContractError as error:
            raise ContractError(f"{self.path}: {error}") from None
        if len(head.bias) != len(self.contract.labels):
            raise ContractError(f"{self.path}: head: {len(head.bias)} rows do not fit its labels")
        return head


def embedded() -> dict[str, Path]:
    """Return the models inside this package by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.onnx"))}


def find(path_or_name: str | os.PathLike[str] | None) -> Path:
    """Return the file of a model: a path, the name of an embedded one, or None for the default.

    Raises:
        InputMissingError: there is neither such a file nor such a name.
    """
    name = DEFAULT if path_or_name is None else os.fspath(path_or_name)
    path = Path(name)
    if path.exists():
        return path
    known = embedded()
    if name in known:
        return known[name]
    raise InputMissingError(
        f"{name}: no such model; give a .onnx file or one of: {', '.join(known) or '(none)'}"
    )


def open_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    device: Device = "auto",
    threads: int = 1,
    cache: bool = False,
) -> Model:
    """Open a model for ``device`` with ``threads`` threads inside one inference.

    Args:
        path_or_name: as ``find`` takes it.
        device: what runs it.
        threads: inside one inference.
        cache: keep the graph that onnxruntime optimised, and open it the next time
            (``edge_fgr.optimised``); the bits are the same.

    Raises:
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        ModelError: it is not an ONNX model that this onnxruntime can run.
        ContractError: it is one, but does not carry our contract, or does not keep it.
        DeviceError: the device asked for is not active. There is no silent fallback.
        UsageError: the device is not known, or ``threads`` is below 1.
    """
    if device not in get_args(Device):
        raise UsageError(f"device {device!r} is not known; known: {', '.join(get_args(Device))}")
    if threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    path = find(path_or_name)
    digest = _digest(path)
    session, active = _session(path, device, threads, digest if cache else None)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ContractError(
            f"{path}: is no edge-fgr model (it carries no contract); make one with edge-fgr export"
        )
    try:
        contract = Contract.from_json(text)
        _check(session, contract)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    identity = ModelId(contract.name, contract.version, digest)
    return Model(path, contract, identity, active, session)


def _digest(path: Path) -> str:
    import hashlib

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, not a model; give a .onnx file") from None
    except OSError as error:
        raise ModelError(f"{path}: reading failed ({error.strerror})") from None


def _session(path: Path, device: Device, threads: int, kept: str | None) -> tuple[Any, str]:
    """Open a session; ``kept`` is the model's digest where its optimised graph may be kept."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    ort.set_default_logger_severity(4)  # our own errors say what is wrong
    available = ort.get_available_providers()
    if device == "cuda" and _PROVIDERS["cuda"] not in available:
        raise DeviceError(
            "cuda: this onnxruntime has no CUDA; pip uninstall onnxruntime && "
            "pip install onnxruntime-gpu, or choose --device cpu"
        )
    wanted = ["cpu"] if device == "cpu" else ["cuda", "cpu"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    providers = [_PROVIDERS[name] for name in wanted if _PROVIDERS[name] in available]
    if kept and providers == [_PROVIDERS["cpu"]]:
        try:
            return optimised.open_session(path, options, kept), "cpu"
        except Exception as error:  # as below
            raise _unusable(path, error) from None
    try:
        session = ort.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a class of its own per status
        raise _unusable(path, error) from None
    active = "cuda" if session.get_providers()[0] == _PROVIDERS["cuda"] else "cpu"
    if device == "cuda" and active != "cuda":
        raise DeviceError(
            "cuda: onnxruntime could not start CUDA; check the driver and the CUDA libraries, "
            "or choose --device cpu"
        )
    return session, active


def _unusable(path: Path, error: Exception) -> ModelError:
    cause = " ".join(str(error).split())[:200]
    return ModelError(f"{path}: not a model that can be run here ({cause})")


def _check(session: Any, contract: Contract) -> None:
    """Raise ContractError unless the graph's entry and exits are what the contract says."""
    size = contract.geometry.size
    entries = [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_inputs()]
    if entries != [("pixels", "tensor(uint8)", [size, size, 3])]:
        raise ContractError(f"contract: the graph's input is not uint8 pixels of {size} x {size}")
    exits = {exit_.name: exit_ for exit_ in session.get_outputs()}
    if "logits" not in exits or exits["logits"].type != "tensor(float)":
        raise ContractError("contract: the graph has no float logits")
    if exits["logits"].shape[1:] != [len(contract.labels)]:
        raise ContractError(
            f"contract: {len(contract.labels)} labels do not fit logits {exits['logits'].shape}"
        )
