"""One ``.onnx`` file that is open: its contract, checked, and what it answers to pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import ContractError, ModelError
from edge_fgr.prediction import ModelId
from edge_fgr.sessions import DEFAULT, Device, Opened, embedded, find, open_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.familiar import Familiar
    from edge_fgr.head import Head
    from edge_fgr.image import Pixels

    Floats = npt.NDArray[np.float32]

Document = TypeVar("Document")

__all__ = ["DEFAULT", "Device", "Model", "embedded", "find", "model_of", "open_model"]


@dataclass(frozen=True, slots=True)
class Model:
    """An open model. onnxruntime sessions may be run from many threads at once.

    Attributes:
        path: where it was read from.
        contract: what it says about itself.
        id: name, version and digest.
        device: what really runs, never ``auto``.
        share: share of the convolutions and matrix products that run there; the CPU runs the
            others.
    """

    path: Path
    contract: Contract
    id: ModelId
    device: str
    session: Any
    share: float = 1.0

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
        from edge_fgr.head import HEAD_KEY, head_from_json

        head = self._document(HEAD_KEY, head_from_json, "the weights of its head")
        if len(head.bias) != len(self.contract.labels):
            raise ContractError(
                f"{self.path}: head: {len(head.bias)} rows do not fit its labels; export it again"
            )
        return head

    def familiar(self) -> Familiar:
        """Return the space in which classes are spread alike.

        Raises:
            ContractError: the file does not carry it, or it does not fit the model's classes.
        """
        from edge_fgr.familiar import FAMILIAR_KEY, familiar_from_json

        needed = "what new classes and the score of unknown images need"
        familiar = self._document(FAMILIAR_KEY, familiar_from_json, needed)
        if len(familiar.classes) != len(self.contract.labels):
            raise ContractError(
                f"{self.path}: familiar: its classes are not those of the labels; export it again"
            )
        return familiar

    def _document(self, key: str, read: Callable[[str], Document], what: str) -> Document:
        """Read what the exporter wrote beside the contract; older exports lack it."""
        text = self.session.get_modelmeta().custom_metadata_map.get(key)
        if text is None:
            raise ContractError(f"{self.path}: lacks {what}; export it again")
        try:
            return read(text)
        except ContractError as error:
            raise ContractError(f"{self.path}: {error}") from None


def open_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    device: Device = "auto",
    device_options: Mapping[str, str] | None = None,
    threads: int = 1,
    cache: bool = False,
) -> Model:
    """Open a model for ``device`` with ``threads`` threads inside one inference.

    Args:
        path_or_name: as ``find`` takes it.
        device: what runs it; ``auto`` is CUDA where that starts, else the CPU.
        device_options: passed on to the device's provider (``edge_fgr.providers``).
        threads: inside one inference.
        cache: keep the graph that onnxruntime optimised, and open it the next time
            (``edge_fgr.optimised``); the bits are the same. On other devices, what the provider
            compiled (``edge_fgr.engines``).

    Raises:
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        ModelError: it is not an ONNX model that this onnxruntime can run.
        ContractError: it is one, but does not carry our contract, or does not keep it.
        DeviceError: the device asked for is not active, or runs too little of the graph. There
            is no silent fallback.
        UsageError: the device is not known, ``threads`` is below 1, or the provider does not take
            its options.
    """
    return model_of(
        open_session(
            path_or_name,
            device=device,
            device_options=device_options,
            threads=threads,
            cache=cache,
        )
    )


def model_of(opened: Opened) -> Model:
    """Read and check what an open session says about itself.

    Raises:
        ContractError: it does not carry our contract, or does not keep it.
    """
    path, session = opened.path, opened.session
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
    identity = ModelId(contract.name, contract.version, opened.digest)
    return Model(path, contract, identity, opened.device, session, opened.share)


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
