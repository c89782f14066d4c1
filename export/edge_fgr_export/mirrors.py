"""One graph over a picture and its mirrored copies (``edge_fgr_train.mirrors``).

The graph of one picture, fp32 or INT8, is made like any other. Nodes whose names begin with
``mirrors/`` turn the pixels, and turn back and average the features of the copies, which in INT8
are rounded to codes once more; with the pooling ``levels`` those of each level. They stand around
what makes the features; what reads them, the pooling and the head, is that of the one picture,
under the same names.

Turning moves values, and the mean is a few sums of two numbers each, in the order of the graph,
and a product with a power of two: a picture's bits are the same on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_shapes

from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.nodes import constants, drop_unused, needed_for, producers, shapes
from edge_fgr_train.mirrors import FLIPS, OF_FEATURES, OF_PIXELS

__all__ = ["OURS", "mirrored", "mirrors_of", "unmirrored"]

OURS, _COPY = "mirrors/", "mirror/"
"""How names begin: of what stands around, and of what belongs to the copies."""

_SHAPE = f"{OURS}shape"


def mirrored(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """Return the graph of a picture that is judged with its mirrored copies.

    Args:
        model: of one picture: fp32, half or INT8, as this package makes it.
        count: of copies, the picture among them: 1, 2 or 4.
    """
    if count == 1:
        return model
    graph, joints = model.graph, _joints(model.graph)
    names = {name: f"{_COPY}{name}" for name in ("pixels", *(joint.name for joint in joints))}
    before = {node.output[0] for node in needed_for(graph, [joint.name for joint in joints])}
    inside = [_renamed(node, names) for node in graph.node if node.output[0] in before]
    behind = [node for node in graph.node if node.output[0] not in before]
    kind = np.float16 if producers(graph)["features"].op_type == "Cast" else np.float32
    first, last, numbers = _Around(count, kind).nodes(joints, shapes(infer_shapes(model)))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend([*first, *inside, *last, *behind])
    result.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in numbers.items())
    onnx.checker.check_model(result, full_check=True)
    return result


def mirrors_of(model: onnx.ModelProto) -> int:
    """Return how many copies of a picture a graph judges together; 1: the picture alone."""
    for tensor in model.graph.initializer:
        if tensor.name == _SHAPE:
            return int(numpy_helper.to_array(tensor)[0])
    return 1


def unmirrored(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the graph of one picture; None: it is one, or is not just what ``mirrored`` makes."""
    count = mirrors_of(model)
    if count == 1:
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names = {name: name.removeprefix(_COPY) for node in graph.node for name in node.input}
    names |= {name: name.removeprefix(_COPY) for node in graph.node for name in node.output}
    inside = [_renamed(n, names) for n in graph.node if not n.name.startswith(OURS)]
    del graph.node[:]
    graph.node.extend(inside)
    drop_unused(graph)
    try:
        again = mirrored(result, count)
    except (onnx.checker.ValidationError, LookupError, ValueError):
        return None
    same = [n.SerializeToString() for n in again.graph.node] == [
        n.SerializeToString() for n in model.graph.node
    ]
    ours, theirs = constants(again), constants(model)
    same = same and ours.keys() == theirs.keys()
    return result if same and all(np.array_equal(ours[k], theirs[k]) for k in ours) else None


@dataclass(frozen=True, slots=True)
class _Joint:
    """Where copies and the picture meet.

    Attributes:
        name: of the features as what is behind reads them: codes, halves or floats.
        scale: of codes: the names of their scale and zero point; else empty.
    """

    name: str
    scale: tuple[str, ...] = ()


def _joints(graph: onnx.GraphProto) -> list[_Joint]:
    """Return the features, then those of other levels that the pooling reads."""
    makers, pooling = producers(graph), float_pooling(graph)
    joints = {}
    for name in ("features", *sorted(pooling.read & makers.keys() if pooling else ())):
        maker, joint = makers[name], _Joint(name)
        if maker.op_type == "DequantizeLinear":
            joint = _Joint(maker.input[0], tuple(maker.input[1:]))
        elif maker.op_type == "Cast":
            joint = _Joint(maker.input[0])
        joints[joint.name] = joint  # the same halves may be read twice
    return list(joints.values())


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for part in (result.input, result.output):
        part[:] = [names.get(name, name) for name in part]
    return result


class _Around:
    """Makes what stands before and behind what is computed for each copy, and the constants."""

    def __init__(self, count: int, kind: type[np.floating]) -> None:
        self._count = count
        self._numbers = {f"{OURS}share": np.array(1 / count, kind)}

    def nodes(
        self, joints: Sequence[_Joint], known: Mapping[str, tuple[int, ...]]
    ) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto], dict[str, np.ndarray]]:
        """Return the nodes before, those behind, and the constants of both."""
        first, shown = [], ["pixels"]
        for place, flip in enumerate(FLIPS[1 : self._count], 1):
            shown.append(f"{OURS}pixels_{place}")
            first.append(self._turned("pixels", [OF_PIXELS[side] for side in flip], shown[-1]))
        first.append(_node("Concat", shown, f"{_COPY}pixels", axis=0))
        last = []
        for place, joint in enumerate(joints):
            own = f"{OURS}level_{place}/" if place else OURS
            last += self._mean(joint, known[joint.name][1:], own)
        return first, last, self._numbers

    def _mean(self, joint: _Joint, shape: tuple[int, ...], own: str) -> list[onnx.NodeProto]:
        """Return what turns back and averages features, under names that begin with ``own``."""
        seen, nodes = f"{_COPY}{joint.name}", []
        if joint.scale:
            nodes.append(_node("DequantizeLinear", [seen, *joint.scale], f"{own}seen"))
            seen = f"{own}seen"
        apart = self._constant(f"{own}shape", [self._count, -1, *shape])
        nodes.append(_node("Reshape", [seen, apart], f"{own}copies"))
        parts = []
        for place, flip in enumerate(FLIPS[: self._count]):
            parts.append(f"{own}copy_{place}")
            which = self._constant(f"{OURS}place_{place}", place)
            nodes.append(_node("Gather", [f"{own}copies", which], parts[-1], axis=0))
            if flip:
                axes = [OF_FEATURES[side] for side in flip]
                nodes.append(self._turned(parts[-1], axes, f"{own}turned_{place}"))
                parts[-1] = f"{own}turned_{place}"
        while len(parts) > 1:
            one, other, *parts = parts
            parts.append(f"{own}sum_{len(nodes)}")
            nodes.append(_node("Add", [one, other], parts[-1]))
        mean = f"{own}mean" if joint.scale else joint.name
        nodes.append(_node("Mul", [parts[0], f"{OURS}share"], mean))
        if joint.scale:
            nodes.append(_node("QuantizeLinear", [mean, *joint.scale], joint.name))
        return nodes

    def _turned(self, name: str, axes: Sequence[int], output: str) -> onnx.NodeProto:
        ends = np.full(len(axes), np.iinfo(np.int64).min).tolist()
        back = self._constant(f"{OURS}back_{len(axes)}", [-1] * len(axes))
        places = self._constant(f"{OURS}axes_{'_'.join(map(str, axes))}", axes)
        begin = self._constant(f"{OURS}begin_{len(axes)}", ends)
        return _node("Slice", [name, back, begin, places, back], output)

    def _constant(self, name: str, values: Sequence[int] | int) -> str:
        self._numbers[name] = np.array(values, np.int64)
        return name


def _node(kind: str, inputs: Sequence[str], output: str, **form: Any) -> onnx.NodeProto:
    label = output if output.startswith(OURS) else f"{OURS}{output}"
    return helper.make_node(kind, inputs, [output], label, **form)
