"""Small questions to an ONNX graph, and small changes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = [
    "attribute",
    "constants",
    "copied",
    "drop_unused",
    "needed_for",
    "producers",
    "reads",
    "replace",
    "shapes",
    "with_constants",
]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_constants(model: onnx.ModelProto, changed: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy of the model with other values of some initializers, as float32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in changed:
            new = changed[tensor.name].astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    return result


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return a number among a node's attributes."""
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return int(next(found, default))


def copied(node: onnx.NodeProto, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    """Return the node with other inputs and another output."""
    copy = helper.make_node(node.op_type, inputs, [output], node.name)
    copy.attribute.extend(node.attribute)
    return copy


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def reads(graph: onnx.GraphProto) -> Counter[str]:
    """Return how often each tensor is read, by nodes or as an output of the graph."""
    found = Counter(name for node in graph.node for name in node.input)
    found.update(output.name for output in graph.output)
    return found


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the graph notes; 0 stands for a size that varies."""
    return {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*model.graph.value_info, *model.graph.output)
    }


def needed_for(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that ``outputs`` depend on, in the order of the graph."""
    wanted = set(outputs)
    found = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def replace(
    graph: onnx.GraphProto, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto], *, at: int
) -> None:
    """Take ``old`` out and put ``new`` at a place among what is left; drop unused constants."""
    rest = [node for node in graph.node if node not in old]
    nodes = [*rest[:at], *new, *rest[at:]]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and constants that no output of the graph depends on."""
    nodes = needed_for(graph, [output.name for output in graph.output])
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
