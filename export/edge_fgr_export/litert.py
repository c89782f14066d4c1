"""``.tflite`` for LiteRT: the integers of an INT8 ONNX graph, converted by litert-torch.

Writing needs the extra ``litert``. Reading needs ai-edge-litert beside the light install, no more.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Contract
from edge_fgr.errors import (
    ContractError,
    InputMissingError,
    MissingExtraError,
    ModelError,
    PermissionDeniedError,
)
from edge_fgr_export.litert_file import MAGIC, contract_text, finished

if TYPE_CHECKING:
    import onnx

__all__ = ["TARGET", "Tflite", "check_converter", "open_tflite", "write_litert"]

TARGET = "litert"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tflite:
    """An open ``.tflite``. It may be run from one thread at a time.

    Attributes:
        path: where it was read from.
        contract: what it says about itself.
        digest: SHA-256 of the file.
        interpreter: of ai-edge-litert, with its tensors allocated.
    """

    path: Path
    contract: Contract
    digest: str
    interpreter: Any

    def run(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Return logits float32 ``(N, C)`` of uint8 pixels ``(N, size, size, 3)``.

        Raises:
            ModelError: the interpreter failed, or the pixels have another size.
        """
        (entry,), (exit_,) = (
            self.interpreter.get_input_details(),
            self.interpreter.get_output_details(),
        )
        rows = np.empty((len(pixels), len(self.contract.labels)), np.float32)
        try:
            for row, image in zip(rows, pixels, strict=True):
                self.interpreter.set_tensor(entry["index"], image[None])
                self.interpreter.invoke()
                row[:] = self.interpreter.get_tensor(exit_["index"])[0]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.path}: inference failed ({_cause(error)})") from None
        return rows


def write_litert(int8: onnx.ModelProto, contract: Contract) -> bytes:
    """Return the ``.tflite`` of an INT8 graph of this package; equal input gives equal bytes.

    Args:
        int8: the graph.
        contract: goes into the file, with ``litert`` as its target.

    Raises:
        MissingExtraError: litert-torch is not installed.
        ModelError: the graph has an operator that has no form here, or the conversion failed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the converter, nothing of the user's
        try:
            import litert_torch
            from litert_torch.quantize import pt2e_quantizer, quant_config
        except ModuleNotFoundError as error:
            raise _missing(error, "writing a .tflite") from None
        from edge_fgr_export.litert_program import Program

        program = Program(int8).eval()
        # Nothing is left to quantise: this only says that roundings in the program are meant so.
        static = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        quantizer = pt2e_quantizer.PT2EQuantizer().set_global(static)
        shown, litert_torch.config.show_progress = litert_torch.config.show_progress, False
        try:
            content = litert_torch.convert(
                program,
                sample_kwargs={"pixels": program.sample},
                quant_config=quant_config.QuantConfig(pt2e_quantizer=quantizer),
            ).model_content()
        except Exception as error:  # whatever a compiler raises
            raise ModelError(f"litert-torch failed ({_cause(error)})") from None
        finally:
            litert_torch.config.show_progress = shown
    return finished(content, replace(contract, target=TARGET).to_json())


def check_converter() -> None:
    """Raise MissingExtraError if what writes a ``.tflite`` is not installed; imports nothing."""
    for name in ("litert_torch", "ai_edge_litert"):
        if find_spec(name) is None:
            raise _missing(ModuleNotFoundError(name=name), "writing a .tflite")


def open_tflite(path: Path) -> Tflite:
    """Open a ``.tflite`` of this package, for one thread.

    Raises:
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        MissingExtraError: ai-edge-litert is not installed.
        ModelError: it is not a model that LiteRT can run.
        ContractError: it is one, but does not carry our contract, or does not keep it.
    """
    content = _content(path)
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise _missing(error, f"{path}: reading a .tflite") from None
    if content[4:8] != MAGIC:
        raise ModelError(f"{path}: not a .tflite file")
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: not a model that can be run here ({_cause(error)})") from None
    try:
        contract = Contract.from_json(contract_text(content))
        _check(interpreter, contract)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    return Tflite(path, contract, hashlib.sha256(content).hexdigest(), interpreter)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputMissingError(f"{path}: no such model; give a .tflite file") from None
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except OSError as error:
        raise ModelError(f"{path}: reading failed ({error.strerror})") from None


def _check(interpreter: Any, contract: Contract) -> None:
    """Raise ContractError unless the graph's entry and exit are what the contract says."""
    size = contract.geometry.size
    ends = [
        (end["name"], end["dtype"], tuple(int(side) for side in end["shape"]))
        for end in (*interpreter.get_input_details(), *interpreter.get_output_details())
    ]
    wanted = [
        ("pixels", np.uint8, (1, size, size, 3)),
        ("logits", np.float32, (1, len(contract.labels))),
    ]
    if ends != wanted:
        raise ContractError(
            f"contract: the graph does not turn uint8 pixels of {size} x {size} into "
            f"{len(contract.labels)} float logits"
        )


def _missing(error: ModuleNotFoundError, what: str) -> MissingExtraError:
    return MissingExtraError(
        f"{what}: the package {error.name} is missing; pip install 'edge-fgr[litert]'"
    )


def _cause(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
