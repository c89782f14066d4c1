"""Poolings that stay float between codes (``edge_fgr_train.pooling``): GeM, bilinear, levels.

What they compute is little, some numbers for each of 49 positions, and has no integer form. So
their operators stand in an INT8 graph as in the fp32 one: they read codes, and the embedding that
they give is rounded to codes. Convolutions among them are integer like all others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx

from edge_fgr_export.nodes import producers

__all__ = ["FloatPooling", "float_pooling"]

_LEVELS = 4
_OF_A_LEVEL = (
    *("Abs", "Mul", "Mul", "GlobalAveragePool", "Flatten", "Add", "Pow"),
    *("ReduceL2", "Clip", "Div"),
)

_FORMS = {
    "GeM": Counter(["Clip", "Mul", "Mul", "GlobalAveragePool", "Flatten", "Add", "Pow"]),
    "bilinear": Counter(
        ["Mul", "GlobalAveragePool", "Flatten", "Sign", "Abs", "Add", "Sqrt", "Sub", "Mul"]
    ),
    # Two of the four are multiplied by a share other than 1.
    "levels": Counter([*_LEVELS * _OF_A_LEVEL, "Mul", "Mul", "Concat"]),
}
"""The operators of each kind, between the last codes and the embedding."""

_CODED = {"Conv", "DequantizeLinear"}
"""Operators whose results are codes, or to be rounded to codes."""


@dataclass(frozen=True, slots=True)
class FloatPooling:
    """The float operators in front of the embedding.

    Attributes:
        kind: ``GeM``, ``bilinear`` or ``levels``.
        nodes: in the order of the graph; the last one gives the embedding. In a half graph with
            the casts around them.
    """

    kind: str
    nodes: tuple[onnx.NodeProto, ...]

    @property
    def made(self) -> frozenset[str]:
        """Names of all tensors that it computes."""
        return frozenset(node.output[0] for node in self.nodes)

    @property
    def read(self) -> frozenset[str]:
        """Names of all tensors that it reads, constants too."""
        return frozenset(name for node in self.nodes for name in node.input) - self.made


def float_pooling(graph: onnx.GraphProto) -> FloatPooling | None:
    """Find such a pooling in a graph of this package, fp32, half or INT8; None: there is none."""
    makers = producers(graph)
    ends = {"features"}
    if (end := makers.get("features")) is not None and end.op_type == "Cast":
        ends.add(end.input[0])  # halves
    name = "embedding"
    for kind in ("DequantizeLinear", "QuantizeLinear"):  # INT8: the embedding is read from codes
        node = makers.get(name)
        if node is not None and node.op_type == kind:
            name = node.input[0]
    found: set[str] = set()
    wanted = [name]
    while wanted:
        name = wanted.pop()
        node = makers.get(name)
        if node is None or name in found or name in ends or node.op_type in _CODED:
            continue
        if node.op_type == "Add" and all(part in makers for part in node.input):
            continue  # the end of a residual block
        found.add(name)
        wanted.extend(node.input)
    nodes = tuple(node for node in graph.node if node.output[0] in found)
    form = Counter(node.op_type for node in nodes if node.op_type != "Cast")
    kind_of = next((kind for kind, operators in _FORMS.items() if operators == form), None)
    return None if kind_of is None else FloatPooling(kind_of, nodes)
