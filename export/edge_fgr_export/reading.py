"""An ONNX graph read back: which tensors are codes, and which operators compute on integers.

A product is integer when it reads data and weights through DequantizeLinear and what it gives is
rounded by QuantizeLinear at once: that is the form which runtimes fuse. Only the product that the
logits come out of is not rounded again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edge_fgr_export.nodes import attribute, constants, needed_for, producers

__all__ = ["PRODUCTS", "ROUNDING", "SHAPES", "Codes", "Reading"]

ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
PRODUCTS = frozenset({"Conv", "Gemm"})
"""Operators with weights."""

SHAPES = frozenset({"Flatten", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that move values and compute nothing."""

_INTEGER = PRODUCTS | {"Add", "AveragePool", "GlobalAveragePool", "MaxPool"}
_ENTRY = ("Transpose", "Cast", "Sub", "Div")


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised tensor: value = (code - zero) * scale.

    Attributes:
        name: of the tensor of codes.
        scale, zero: one number, or one for each channel; the type of ``zero`` is that of the codes.
        values: the codes themselves, where they are constant.
        axis: of the channels.
    """

    name: str
    scale: np.ndarray
    zero: np.ndarray
    values: np.ndarray | None
    axis: int


class Reading:
    """A graph with answers to what one asks of a QDQ graph.

    Attributes:
        values: constants by name.
        makers: the node that makes each tensor.
        readers: the nodes that read each tensor, in the order of the graph.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self.values = constants(model)
        self.makers = producers(graph)
        self.outputs = {output.name for output in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(node)
        self._behind = {n.output[0] for n in needed_for(graph, ["logits"])} - {
            n.output[0] for n in needed_for(graph, ["embedding", "features"])
        }

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded to codes; nothing is in an fp32 graph."""
        return any(node.op_type == "QuantizeLinear" for node in self.nodes)

    def entry(self) -> list[onnx.NodeProto]:
        """Return the operators between the pixels and the first codes that are not pixels."""
        found, names = [], {"pixels"}
        for node in self.nodes:
            if node.op_type in _ENTRY and names.intersection(node.input):
                found.append(node)
                names.update(node.output)
        return found

    def is_head(self, node: onnx.NodeProto) -> bool:
        """Return whether only the logits depend on a node."""
        return node.output[0] in self._behind

    def codes(self, name: str) -> Codes | None:
        """Return the codes that a float tensor is read from; None where it is computed."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        return self.of(maker, maker.input[0])

    def rounded(self, name: str) -> Codes | None:
        """Return the codes that a float tensor turns to, if nothing else reads it."""
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and readers[0].op_type == "QuantizeLinear"
        if not alone or name in self.outputs:
            return None
        return self.of(readers[0], readers[0].output[0])

    def of(self, node: onnx.NodeProto, name: str) -> Codes | None:
        """Return the codes ``name`` on one side of a QuantizeLinear or DequantizeLinear.

        None where scale or zero point is not a constant of its own.
        """
        if node.domain or len(node.input) < 3 or not self.values.keys() >= {*node.input[1:3]}:
            return None
        scale, zero = (self.values[constant] for constant in node.input[1:3])
        return Codes(name, scale, zero, self.values.get(name), attribute(node, "axis", 1))

    def is_integer(self, node: onnx.NodeProto) -> bool:
        """Return whether an operator computes on codes."""
        if node.op_type not in _INTEGER:
            return False
        from_codes = all(self.codes(name) is not None for name in node.input if name)
        final = node.op_type in PRODUCTS and self.is_head(node)
        return from_codes and (final or self.rounded(node.output[0]) is not None)

    def name(self, node: onnx.NodeProto) -> str:
        """Return what to call a node: its weights where it has some, else what it makes."""
        if node.op_type in PRODUCTS:
            return str(node.input[1])
        return str(node.output[0]).removesuffix("_f")

    def stray(self) -> list[str]:
        """Return pairs of QuantizeLinear and DequantizeLinear, or one alone, that do no work."""
        found = []
        for node in self.nodes:
            if node.op_type not in ROUNDING:
                continue
            name = node.output[0]
            readers = self.readers.get(name, [])
            if not readers and name not in self.outputs:
                found.append(f"{name}: nobody reads it")
            elif node.op_type == "DequantizeLinear":
                if any(reader.op_type == "QuantizeLinear" for reader in readers):
                    found.append(f"{name}: codes that are rounded to codes again")
            elif self._for_nothing(node, readers):
                found.append(f"{name}: rounded between two operators that are float")
        return found

    def _for_nothing(self, node: onnx.NodeProto, readers: list[onnx.NodeProto]) -> bool:
        maker = self.makers.get(node.input[0])
        if maker is None or maker.op_type in SHAPES or self.is_integer(maker):
            return False
        if maker in self.entry():
            return False
        users = [
            user
            for reader in readers
            if reader.op_type == "DequantizeLinear"
            for user in self.readers.get(reader.output[0], [])
        ]
        return bool(users) and not any(self.is_integer(user) for user in users)
