"""What follows the embedding: a linear head, whose input may be scaled to length 1 first.

INT8 with unit length promises the same bits as everything else here. The products of weights and
codes are integers, which one scale turns to float, as in the plain head. The length is the root of
a sum of squares of integers: in float64 that sum is exact in any order (below 2^53, which is 10^11
codes), and a root is rounded correctly everywhere. What is left is one division and one addition
for each logit.

A *fine* head has its weights twice, rounded to 8 bits, and what that left rounded once more: one
product with twice the rows, whose halves are added. A classifier that did not shape its embedding
has many near-ties, and 8 bits alone decide some of them otherwise: on frozen ImageNet features of
81 groceries up to 2 in 100 images, against none with 16. The second half costs as much as the
first: 0.1 million products, next to 400 million before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_export.nodes import attribute, copied, needed_for
from edge_fgr_export.qdq import Builder

__all__ = ["Head", "head_of", "write_fp32_head", "write_int8_head"]

_LEAST_LENGTH = 1e-12
"""What a shorter embedding is divided by."""

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_INT8 = {"Gemm", "DequantizeLinear"}
_PLAIN = ({"Gemm"}, {"Gemm", "Cast"}, _INT8, {*_INT8, "Split", "Add"})
_LENGTH = {*_INT8, "Cast", "Sub", "ReduceSumSquare", "Sqrt", "Mul", "Max", "Div", "Add"}
_UNIT = {"Gemm", "ReduceL2", "Clip", "Div"}
_L2 = (_UNIT, {*_UNIT, "Cast"}, _LENGTH, {*_LENGTH, "Split"})
_GEMM = {"alpha": 1, "beta": 1, "transA": 0, "transB": 1}


@dataclass(frozen=True, slots=True)
class Head:
    """The nodes between embedding and logits.

    Attributes:
        nodes: all of them, those that only unpack weights included.
        gemm: the linear one.
        l2: whether the embedding is scaled to length 1.
    """

    nodes: tuple[onnx.NodeProto, ...]
    gemm: onnx.NodeProto
    l2: bool

    @property
    def seen(self) -> str:
        """What the linear layer reads, in an fp32 graph: the embedding, plain or scaled."""
        return str(self.gemm.input[0])

    @property
    def weight(self) -> str:
        """Name of the weights ``(C, D)``."""
        return str(self.gemm.input[1])


def head_of(graph: onnx.GraphProto) -> Head:
    """Find the head of an fp32 or INT8 graph of this package.

    Raises:
        ModelError: what follows the embedding is no such head.
    """
    body = needed_for(graph, ["embedding", "features"])
    made = {name for node in body for name in node.output}
    nodes = [node for node in needed_for(graph, ["logits"]) if node.output[0] not in made]
    kinds = {node.op_type for node in nodes}
    linear = [node for node in nodes if node.op_type == "Gemm"]
    if len(linear) != 1 or kinds not in (*_PLAIN, *_L2):
        raise ModelError("between embedding and logits there is no single linear layer")
    if any(attribute(linear[0], name, _GEMM[name]) != _GEMM[name] for name in _GEMM):
        raise ModelError("the linear layer before the logits is not in the usual form")
    return Head(tuple(nodes), linear[0], kinds in _L2)


def write_fp32_head(
    graph: onnx.GraphProto, gemm: onnx.NodeProto, weight: Floats, bias: Floats, *, l2: bool
) -> None:
    """Add a head with weights ``(C, D)`` and bias ``(C,)``; ``gemm`` lends its name and form."""
    seen = "embedding"
    if l2:
        _constant(graph, "length_axes", np.array([1], np.int64))
        _constant(graph, "length_least", np.float32(_LEAST_LENGTH))
        graph.node.extend(
            [
                helper.make_node("ReduceL2", ["embedding", "length_axes"], ["norm"], keepdims=1),
                helper.make_node("Clip", ["norm", "length_least"], ["length"]),
                helper.make_node("Div", ["embedding", "length"], ["unit"]),
            ]
        )
        seen = "unit"
    _constant(graph, gemm.input[1], weight)
    _constant(graph, "head.bias", bias)
    graph.node.append(copied(gemm, [seen, gemm.input[1], "head.bias"], "logits"))


def write_int8_head(
    out: Builder,
    gemm: onnx.NodeProto,
    group: str,
    weight: Floats,
    bias: Floats,
    mean: Doubles | None,
    *,
    l2: bool,
    fine: bool = False,
    pair_safe: bool = True,
) -> None:
    """Add a head to a graph where ``embedding_q`` are codes of ``group``; logits stay float.

    Args:
        out: the graph that is being written.
        gemm: lends its name, its form and the name of its weights.
        group: whose scale and zero point the codes have.
        weight: float32 ``(C, D)``.
        bias: float32 ``(C,)``.
        mean: ``(D,)``, of what the linear layer sees; without it the bias is not corrected for
            rounding of the weights.
        l2: scale the embedding to length 1.
        fine: weights of twice 8 bits.
        pair_safe: as in ``quantise_weights``.
    """
    name, classes = gemm.input[1], len(bias)
    inside = np.zeros_like(bias) if l2 else bias  # what the integer product adds
    if fine:
        rest = weight - out.rounded(weight, inside, group, pair_safe=pair_safe)
        weight = np.concatenate([weight, rest])
        inside = np.concatenate([inside, np.zeros_like(bias)])
    weights = out.weights(name, weight, inside, group, pair_safe=pair_safe)
    shift = np.zeros(classes) if mean is None or fine else out.error(name, weight) @ mean
    codes = out.read("embedding", group, "embedding_for_logits_0")
    result = "products" if l2 else "logits"
    halves = [f"{result}_coarse", f"{result}_fine"]
    product = f"{result}_both" if fine else result
    if l2:
        out.nodes.append(copied(gemm, [codes, weights], product))
    else:
        added = np.concatenate([bias - shift, inside[classes:]])
        inputs = [codes, weights, out.bias(name, added, group)]
        out.nodes.append(copied(gemm, inputs, product))
    if fine:
        out.nodes.append(helper.make_node("Split", [product], halves, axis=1, num_outputs=2))
        out.nodes.append(helper.make_node("Add", halves, [result]))
    if not l2:
        return
    # A bias inside would have been divided by the length as well.
    out.constant("codes_zero", out.value(f"{group}_zero").astype(np.float64))
    out.constant("codes_scale", out.value(f"{group}_scale").astype(np.float64))
    out.constant("length_axes", np.array([1], np.int64))
    out.constant("length_least", np.float64(_LEAST_LENGTH))
    out.constant(f"{name}_bias", (bias - shift).astype(np.float32))
    out.nodes.extend(
        [
            helper.make_node("Cast", ["embedding_q"], ["codes"], to=onnx.TensorProto.DOUBLE),
            helper.make_node("Sub", ["codes", "codes_zero"], ["steps"]),
            helper.make_node("ReduceSumSquare", ["steps", "length_axes"], ["squares"], keepdims=1),
            helper.make_node("Sqrt", ["squares"], ["root"]),
            helper.make_node("Mul", ["root", "codes_scale"], ["norm"]),
            helper.make_node("Max", ["norm", "length_least"], ["length_exact"]),
            helper.make_node("Cast", ["length_exact"], ["length"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Div", ["products", "length"], ["cosines"]),
            helper.make_node("Add", ["cosines", f"{name}_bias"], ["logits"]),
        ]
    )


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray | np.generic) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
