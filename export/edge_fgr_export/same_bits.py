"""Does a graph promise the same logits, to the last bit, on every processor? Proven from the file.

docs/same-bits.md has the argument; ``weights``, ``groups``, ``heads`` and ``entry`` have the parts
of it. Proven here is that a graph meets its premises: sums are sums of integers that no kernel cuts
short, and what is float goes value by value. A graph with anything else in it promises nothing,
also where it would happen to agree. That onnxruntime fuses each operator is seen by ``graph_card``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from edge_fgr.errors import ModelError
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.heads import head_of
from edge_fgr_export.mirrors import unmirrored
from edge_fgr_export.nodes import attribute
from edge_fgr_export.reading import PRODUCTS, ROUNDING, SHAPES, Codes, Reading
from edge_fgr_export.tiles import untiled
from edge_fgr_export.weights import worst_pair
from edge_fgr_export.wide import wide_fault, wide_parts
from edge_fgr_train.int8 import PAIR_LIMIT

__all__ = ["check_same_bits", "faults_of"]

_INT32 = 2**31 - 1
_TINY = float(np.finfo(np.float32).tiny)
"""Some processors flush what is smaller to zero."""

_BY_VALUE = {"Relu", "Clip"}
"""Between codes: float, but each value alone."""


def check_same_bits(model: onnx.ModelProto) -> None:
    """Refuse a graph that does not promise the same bits; up to the features, for a float pooling.

    Raises:
        ModelError: with the first fault, and how many more there are.
    """
    if faults := _faults_of(model):
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise ModelError(f"the graph cannot promise the same bits everywhere: {faults[0]}{more}")


def faults_of(model: onnx.ModelProto) -> list[str]:
    """Return what stands against the same bits on every processor; nothing: they are promised."""
    if alone := unmirrored(model):  # what stands around it moves and adds, value by value
        return faults_of(alone)
    if apart := untiled(model):  # what stands around them compares and moves
        return list(dict.fromkeys([*faults_of(apart.choosing), *faults_of(apart.deciding)]))
    pooling = float_pooling(model.graph)
    faults = _faults_of(model)
    if pooling is None or not Reading(model).rounds:
        return faults
    return [
        f"embedding: {pooling.kind} pooling is float: its sums depend on the processor",
        *faults,
    ]


def _faults_of(model: onnx.ModelProto) -> list[str]:
    """Return the faults but for that of a float pooling."""
    if alone := unmirrored(model):
        return _faults_of(alone)
    if apart := untiled(model):
        return list(dict.fromkeys([*_faults_of(apart.choosing), *_faults_of(apart.deciding)]))
    graph = Reading(model)
    if not graph.rounds:
        return ["an fp32 graph: sums of floats depend on the processor"]
    return list(_Judge(model, graph).faults())


class _Judge:
    """Goes through the nodes of one INT8 graph."""

    def __init__(self, model: onnx.ModelProto, graph: Reading) -> None:
        self._model, self._graph = model, graph
        self._entry = graph.entry()
        self._wide = wide_parts(graph)
        pooling = float_pooling(model.graph)
        self._pooling = pooling.made if pooling else frozenset[str]()

    def faults(self) -> Iterator[str]:
        if self._model.functions:
            yield "the graph has functions of its own, which are not looked into"
        for node in self._graph.nodes:
            name = self._graph.name(node)
            faults = self._faults(node)
            yield from (f"{name}: {fault}" for fault in faults)
        yield from self._head()

    def _faults(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.op_type} of {node.domain} is not known"
        elif node.op_type in ROUNDING:
            yield from self._rounding(node)
        elif node.output[0] in self._wide:
            if node.op_type == "Conv" and (fault := wide_fault(self._graph, node)):
                yield fault
        elif node.output[0] in self._pooling:
            return  # named as a whole
        elif node in self._entry:
            yield from self._by_value_entry(node)
        elif node.op_type in PRODUCTS:
            yield from self._product(node)
        elif node.op_type in SHAPES or self._graph.is_head(node):
            return  # values are moved; and the head is judged as a whole
        elif node.op_type in ("Add", "MaxPool", "GlobalAveragePool"):
            yield from self._sum(node)
        elif node.op_type in _BY_VALUE:
            if None in (self._graph.codes(node.input[0]), self._graph.rounded(node.output[0])):
                yield f"{node.op_type} is not between codes"
        else:
            yield f"{node.op_type} has no form with the same bits everywhere"

    def _rounding(self, node: onnx.NodeProto) -> Iterator[str]:
        """Judge a tensor of codes, from both sides."""
        source = node.input[0]
        codes = self._graph.of(node, node.output[0] if _is_q(node) else source)
        if codes is None:
            yield f"{node.op_type} without constant scale and zero point"
            return
        scales = codes.scale.astype(np.float64)
        if codes.scale.dtype != np.float32 or not np.isfinite(scales).all() or scales.min() < _TINY:
            yield "a scale is no normal positive number in float32"
        if codes.values is not None:
            return  # weights and biases are judged with their product
        if codes.zero.dtype != np.uint8:
            yield f"codes are {codes.zero.dtype}, not uint8"
        if codes.scale.size != 1 or codes.zero.size != 1:
            yield "activations have more than one scale"
        maker = self._graph.makers.get(source)
        if not _is_q(node) and maker is not None and _is_q(maker):
            other = self._graph.of(maker, source)
            if other is not None and not _same(codes, other):
                yield "codes are read with another scale or zero point than they were rounded with"

    def _by_value_entry(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.op_type == "Cast" and attribute(node, "to", 0) != onnx.TensorProto.FLOAT:
            yield "pixels are cast to something else than float32"

    def _product(self, node: onnx.NodeProto) -> Iterator[str]:
        graph = self._graph
        if not graph.is_integer(node):
            yield f"{node.op_type} is computed in float"
            return
        data, weights, *rest = (graph.codes(name) for name in node.input if name)
        bias = rest[0] if rest else None
        if data is None or weights is None or weights.values is None or data.values is not None:
            yield f"{node.op_type} of something else than codes and constant weights"
            return
        if data.scale.size != 1 or data.zero.size != 1:
            return  # named where they are rounded
        values = weights.values
        if values.dtype != np.int8 or weights.zero.any():
            yield f"weights are {values.dtype} around {weights.zero.max()}, not int8 around 0"
            return
        if node.op_type == "Gemm" and (
            [attribute(node, a, 0) for a in ("transA", "transB")] != [0, 1]
            or _number(node, "alpha") != 1
            or _number(node, "beta") != 1
        ):
            yield "Gemm is not in the usual form"
            return
        if values.ndim != (4 if node.op_type == "Conv" else 2):
            yield f"nobody knows in what order kernels pack weights of {values.ndim} dimensions"
            return
        if weights.scale.size > 1 and (weights.axis or weights.scale.shape != values.shape[:1]):
            yield "weights have scales along another axis than that of the outputs"
        parts = attribute(node, "group", 1) if node.op_type == "Conv" else 1
        depthwise = parts > 1 and values.shape[1] == 1 and len(values) == parts
        if not depthwise and (pair := worst_pair(values)) > PAIR_LIMIT:
            yield f"a pair of weights adds up to {pair}; above {PAIR_LIMIT} it can saturate int16"
        if int(values.min(initial=0)) == -128:
            yield "a weight is -128; kernels that move activations to int8 can saturate"
        yield from _bias_faults(data, weights, bias)
        yield from _overflow(data, values, bias)

    def _sum(self, node: onnx.NodeProto) -> Iterator[str]:
        graph = self._graph
        inside = [graph.codes(name) for name in node.input if name]
        result = graph.rounded(node.output[0])
        known = [codes for codes in (*inside, result) if codes is not None]
        if len(known) != len(inside) + 1:
            yield f"{node.op_type} is computed in float"
            return
        if any(codes.values is not None for codes in known):
            yield f"{node.op_type} of a constant"
        first = known[0]
        if node.op_type == "Add" and any(codes.scale != first.scale for codes in known):
            scales = ", ".join(f"{float(codes.scale):.9g}" for codes in known)
            yield f"inputs and output of Add have scales {scales}, not one"
        if node.op_type == "MaxPool" and not _same(first, known[-1]):
            yield "both ends of MaxPool do not share scale and zero point"
        if node.op_type == "GlobalAveragePool":
            shape = self._model.graph.input[0].type.tensor_type.shape
            height, width = (dim.dim_value for dim in shape.dim[1:3])
            if 2 * 255 * height * width > _INT32:  # feature maps are smaller than pictures
                yield f"a mean over up to {height} x {width} positions can overflow int32"

    def _head(self) -> Iterator[str]:
        """Judge what stands behind the last integer product."""
        try:
            head = head_of(self._model.graph)
        except ModelError as error:
            yield str(error)
            return
        casts = [node for node in head.nodes if node.op_type == "Cast"]
        if not casts:
            return  # Gemm alone, or the sum of its two halves
        # Whole numbers as float64, so that the sum of their squares is exact in any order.
        kinds = [attribute(node, "to", 0) for node in casts]
        steps = [node for node in head.nodes if node.op_type == "Sub"]
        squares = [node for node in head.nodes if node.op_type == "ReduceSumSquare"]
        exact = (
            kinds == [onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT]
            and len(steps) == len(squares) == 1
            and steps[0].input[0] == casts[0].output[0]
            and squares[0].input[0] == steps[0].output[0]
            and self._is_codes(casts[0].input[0])
            and _is_whole(self._graph.values.get(steps[0].input[1]))
        )
        if not exact:
            yield "logits: the length is not the root of a sum of squares of integers in float64"

    def _is_codes(self, name: str) -> bool:
        maker = self._graph.makers.get(name)
        return maker is not None and _is_q(maker)


def _bias_faults(data: Codes, weights: Codes, bias: Codes | None) -> Iterator[str]:
    if bias is None:
        return
    if bias.values is None or bias.values.dtype != np.int32 or bias.zero.any():
        yield "the bias is no constant int32 around 0"
        return
    # The product in float32, as the exporter and onnxruntime compute it.
    wanted = (data.scale * weights.scale).astype(np.float32)
    if bias.scale.size != wanted.size or (bias.scale.reshape(-1) != wanted.reshape(-1)).any():
        yield "the scale of the bias is not that of the products"


def _overflow(data: Codes, values: np.ndarray, bias: Codes | None) -> Iterator[str]:
    """Bound every partial sum: products, the zero point's share and the bias, in any order."""
    rows = values.reshape(len(values), -1).astype(np.int64)
    most = 255 * np.abs(rows).sum(axis=1) + int(data.zero.max()) * np.abs(rows.sum(axis=1))
    if bias is not None and bias.values is not None and bias.values.size == len(rows):
        most = most + np.abs(bias.values.astype(np.int64)).reshape(-1)
    if most.max(initial=0) > _INT32:
        yield f"sums can reach {int(most.max())} and overflow int32"


def _is_q(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "QuantizeLinear")


def _same(a: Codes, b: Codes) -> bool:
    same_type = a.zero.dtype == b.zero.dtype
    return same_type and bool(np.all(a.scale == b.scale) and np.all(a.zero == b.zero))


def _is_whole(value: np.ndarray | None) -> bool:
    return value is not None and value.size == 1 and float(value).is_integer()


def _number(node: onnx.NodeProto, name: str) -> float:
    found = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return float(found[0]) if found else 1.0
