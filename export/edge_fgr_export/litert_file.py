"""Changes of a ``.tflite`` file that the converter has no words for, and reading of our contract.

The converter joins two roundings of one tensor and keeps the last codes only. So the program asks
for one rounding each, and what only renames codes is put in here: QUANTIZE for pixels, from uint8
to int8, and for the embedding, from int8 to int16, and DEQUANTIZE for the logits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from edge_fgr.contract import METADATA_KEY
from edge_fgr.errors import ContractError, ModelError

__all__ = ["MAGIC", "contract_text", "finished", "float_operators", "operators"]

MAGIC = b"TFL3"
"""Stands in bytes 4 to 7 of a ``.tflite``."""

_INTEGER = {
    "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED",
    "MAX_POOL_2D", "MEAN", "PAD", "PADV2", "QUANTIZE",
}  # fmt: skip


def finished(content: bytes, contract: str) -> bytes:
    """Return what the converter made with those operators, plain names and a contract.

    Args:
        content: the converter's file.
        contract: a JSON document.

    Raises:
        ModelError: the converter left something in float that is not behind the last product.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    _Editor(model).edit()
    if left := float_operators(model):
        raise ModelError(
            f"litert-torch left {', '.join(sorted(set(left)))} in float; use the .onnx file, and "
            "report which litert-torch and which network it was"
        )
    _attach(model, contract.encode())
    return _packed(model)


def contract_text(content: bytes) -> str:
    """Return the document inside a ``.tflite``.

    Raises:
        ContractError: there is none.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA_KEY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode(errors="replace")
    raise ContractError("is no edge-fgr model (it carries no contract)")


def float_operators(model: Any) -> list[str]:
    """Return the operators that should be integer and touch a float tensor.

    QUANTIZE is one of them: nothing float may stand before an integer.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, found = model.subgraphs[0], []
    for name, operator in operators(model):
        kinds = [graph.tensors[i].type for i in (*operator.inputs, *operator.outputs) if i >= 0]
        if schema.TensorType.FLOAT32 in kinds and name in _INTEGER:
            found.append(name)
    return found


def operators(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the operators with their names."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        yield names[flatbuffer_utils.get_builtin_code_from_operator_code(code)], operator


class _Editor:
    """Puts operators that rename codes into a model, in place."""

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema, self._model, self._graph = schema, model, model.subgraphs[0]

    def edit(self) -> None:
        """Do all that the module's docstring says, and give tensors plain names."""
        kinds, wide = self._schema.TensorType, {}
        for name, operator in list(operators(self._model)):
            source, result = operator.inputs[0], operator.outputs[0]
            if name == "FULLY_CONNECTED" and self._kind(result) == kinds.INT16:
                if source not in wide:
                    wide[source] = self._copy(source, kinds.INT16, 0)
                    place = self._graph.operators.index(operator)
                    self._insert(place, "QUANTIZE", 2, source, wide[source])
                operator.inputs = [wide[source], *operator.inputs[1:]]
                code = self._model.operatorCodes[operator.opcodeIndex]
                code.version = max(code.version, 7)  # the first with int16
        self._round_table()
        (codes,), (logits,) = self._graph.inputs, self._graph.outputs
        if self._kind(codes) == kinds.INT8:
            zero = int(self._graph.tensors[codes].quantization.zeroPoint[0])
            pixels = self._copy(codes, kinds.UINT8, zero + 128)
            self._insert(0, "QUANTIZE", 1, pixels, codes)
            self._graph.inputs = [pixels]
        if self._kind(logits) == kinds.INT16:
            result = self._copy(logits, kinds.FLOAT32, None)
            self._insert(len(self._graph.operators), "DEQUANTIZE", 3, logits, result)
            self._graph.outputs = [result]
        self._name()

    def _round_table(self) -> None:
        """Make a lookup of float pixels that are rounded next a lookup of their codes."""
        named, tensors = list(operators(self._model)), self._graph.tensors
        if [name for name, _ in named[2:6]] != [
            "RESHAPE",
            "EMBEDDING_LOOKUP",
            "RESHAPE",
            "QUANTIZE",
        ]:
            return
        lookup, shaped, rounding = (operator for _, operator in named[3:6])
        table, found, codes = (
            tensors[i] for i in (lookup.inputs[1], lookup.outputs[0], rounding.outputs[0])
        )
        buffer, how = self._model.buffers[table.buffer], codes.quantization
        values = np.frombuffer(bytes(buffer.data), np.float32)
        rounded = np.rint(values / np.float32(how.scale[0])) + how.zeroPoint[0]
        buffer.data = rounded.astype(np.int8).view(np.uint8)
        for tensor in (table, found):
            tensor.type, tensor.quantization = codes.type, how
        shaped.outputs = rounding.outputs
        self._graph.operators.remove(rounding)

    def _kind(self, tensor: int) -> int:
        return int(self._graph.tensors[tensor].type)

    def _copy(self, tensor: int, kind: int, zero: int | None) -> int:
        """Add a tensor of another type and zero point, or of float; return its place."""
        added = copy.deepcopy(self._graph.tensors[tensor])
        added.type = kind
        if zero is None:
            added.quantization = None
        else:
            added.quantization.zeroPoint = [zero]
        self._graph.tensors.append(added)
        return len(self._graph.tensors) - 1

    def _insert(self, place: int, name: str, version: int, source: int, result: int) -> None:
        """Put an operator in; ``version`` is the first that knows the types."""
        schema = self._schema
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = version
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes)
        operator.inputs, operator.outputs = [source], [result]
        self._model.operatorCodes.append(code)
        self._graph.operators.insert(place, operator)

    def _name(self) -> None:
        """Name the ends as the ONNX file does; other names only tell how the program is built."""
        for i, tensor in enumerate(self._graph.tensors):
            tensor.name = f"t{i}".encode()
        (signature,) = self._model.signatureDefs
        ends = ((self._graph.inputs, signature.inputs), (self._graph.outputs, signature.outputs))
        for name, ((tensor,), (entry,)) in zip((b"pixels", b"logits"), ends, strict=True):
            self._graph.tensors[tensor].name = entry.name = name
            entry.tensorIndex = tensor


def _attach(model: Any, document: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(document, np.uint8)
    entry.name, entry.buffer = METADATA_KEY.encode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def _packed(model: Any) -> bytes:
    import flatbuffers

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]
        """Lays bytes at multiples of 16, as the schema asks; Python's generator forgets that."""

        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802
            return super().StartVector(size, count, 16 if size == 1 else alignment)

    builder = Aligned(0)
    builder.Finish(model.Pack(builder), file_identifier=MAGIC)
    return bytes(builder.Output())
