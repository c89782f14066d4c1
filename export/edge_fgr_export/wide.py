"""Convolutions whose weights keep more than 8 bits, and still give the same bits everywhere.

Activations stay codes; weights are integers as large as float32 can sum without rounding: while
255 times the sum of their magnitudes stays below 2^24, every product and every partial sum is a
whole number that float32 holds exactly, in whatever order a kernel adds. That leaves a depthwise
layer 13 bits and a large dense one 9. What follows goes value by value, in float64.

Scale and bias are in float64 for another reason too: onnxruntime would multiply a float32 scale
into the weights, which would no longer be whole. And codes are cast, not dequantised: behind a
DequantizeLinear it rounds float weights to 8 bits by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edge_fgr_export.nodes import copied
from edge_fgr_export.qdq import Builder
from edge_fgr_export.reading import Reading

__all__ = ["EXACT", "wide_fault", "wide_parts", "widest", "write_wide"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

EXACT = 2**24
"""Whole numbers up to here are exact in float32."""

_MOST_BITS = 2**15

_BEFORE = ("Sub", "Cast")
_AFTER = ("Cast", "Mul", "Add", "Cast")
"""Operators around a wide convolution."""


def widest(weights: Floats) -> tuple[Floats, Doubles]:
    """Return whole numbers ``(M, …)`` as float32 and scales ``(M,)``: weight = number * scale."""
    rows = np.abs(weights.reshape(len(weights), -1).astype(float))
    room = EXACT / 255 - rows.shape[1]  # rounding adds at most a half to each
    scales = np.maximum(rows.sum(axis=1) / room, rows.max(axis=1) / _MOST_BITS)
    scales = np.maximum(scales, 1e-30)
    shape = (-1, *[1] * (weights.ndim - 1))
    return np.rint(weights / scales.reshape(shape)).astype(np.float32), scales


def write_wide(
    out: Builder,
    conv: onnx.NodeProto,
    source: tuple[str, str],
    weights: Floats,
    bias: Doubles,
    result: str,
) -> None:
    """Add a convolution of codes; its float result is still to be rounded.

    Args:
        out: the graph that is being written.
        conv: lends its name, its form and the name of its weights.
        source: the tensor whose codes it reads, and its group.
        weights: float32 ``(M, C, kh, kw)``.
        bias: ``(M,)``.
        result: name of the float tensor.
    """
    tensor, group = source
    name = conv.input[1]
    whole, scales = widest(weights)
    out.constant(f"{name}_whole", whole)
    unit = scales * float(out.value(f"{group}_scale"))
    out.constant(f"{name}_unit", unit.reshape(-1, 1, 1))
    out.constant(f"{name}_added", np.asarray(bias, float).reshape(-1, 1, 1))
    out.constant(f"{name}_zero", out.value(f"{group}_zero").astype(np.float32))
    steps = f"{result}_steps"
    codes, centred = f"{steps}_codes", f"{steps}_centred"
    sums, exact, scaled, added = (f"{steps}_{step}" for step in ("sums", "exact", "scaled", "sum"))
    out.nodes.extend(
        [
            helper.make_node("Cast", [f"{tensor}_q"], [codes], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sub", [codes, f"{name}_zero"], [centred]),
            copied(conv, [centred, f"{name}_whole"], sums),
            helper.make_node("Cast", [sums], [exact], to=onnx.TensorProto.DOUBLE),
            helper.make_node("Mul", [exact, f"{name}_unit"], [scaled]),
            helper.make_node("Add", [scaled, f"{name}_added"], [added]),
            helper.make_node("Cast", [added], [result], to=onnx.TensorProto.FLOAT),
        ]
    )


def wide_parts(graph: Reading) -> dict[str, onnx.NodeProto]:
    """Return the tensors that are computed inside wide convolutions, each with its convolution."""
    found: dict[str, onnx.NodeProto] = {}
    for conv in graph.nodes:
        if conv.op_type != "Conv":
            continue
        before = _back(graph, conv.input[0], _BEFORE)
        after = _on(graph, conv.output[0], _AFTER)
        if before and after:
            found |= {node.output[0]: conv for node in (*before, conv, *after)}
    return found


def wide_fault(graph: Reading, conv: onnx.NodeProto) -> str | None:
    """Return what keeps a wide convolution from giving the same bits everywhere; None: nothing."""
    sub, cast = _back(graph, conv.input[0], _BEFORE)
    _, mul, add, last = _on(graph, conv.output[0], _AFTER)
    weights, zero = (graph.values.get(name) for name in (conv.input[1], sub.input[1]))
    maker = graph.makers.get(cast.input[0])
    if maker is None or maker.op_type not in ("QuantizeLinear", "Transpose"):
        return "a wide convolution of something else than codes"
    if weights is None or zero is None or zero.size != 1 or len(conv.input) > 2:
        return "a wide convolution in an unknown form"
    if not (np.rint(weights) == weights).all() or not 0 <= float(zero) <= 255:
        return "wide weights that are not whole"
    if 255 * np.abs(weights.astype(float)).reshape(len(weights), -1).sum(axis=1).max() >= EXACT:
        return "wide weights whose sums float32 cannot hold"
    numbers = [graph.values.get(node.input[1]) for node in (mul, add)]
    if any(number is None or number.dtype != np.float64 for number in numbers):
        return "a wide convolution that is not scaled in float64"
    return None if graph.rounded(last.output[0]) else "a wide convolution that is not rounded"


def _back(graph: Reading, name: str, kinds: tuple[str, ...]) -> list[onnx.NodeProto]:
    found = []
    for kind in kinds:
        node = graph.makers.get(name)
        if node is None or node.op_type != kind:
            return []
        found.append(node)
        name = node.input[0]
    return found


def _on(graph: Reading, name: str, kinds: tuple[str, ...]) -> list[onnx.NodeProto]:
    found = []
    for kind in kinds:
        readers = graph.readers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != kind or name in graph.outputs:
            return []
        found.append(readers[0])
        name = readers[0].output[0]
    return found
