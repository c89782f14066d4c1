"""One graph over a picture and its mirrored copies (``edge_fgr_train.mirrors``).

The graph of one picture, fp32 or INT8, is made like any other. Nodes whose names begin with
``mirrors/`` turn the pixels, and turn back and average the features of the copies, which in INT8
are rounded to codes once more. They stand around what makes the features; what reads them, the
pooling and the head, is that of the one picture, under the same names.

Turning moves values, and the mean is a few sums of two numbers each, in the order of the graph,
and a product with a power of two: a picture's bits are the same on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

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
    graph, joint = model.graph, _joint(model.graph)
    names = {"pixels": f"{_COPY}pixels", joint: f"{_COPY}{joint}"}
    before = {node.output[0] for node in needed_for(graph, [joint])}
    inside = [_renamed(node, names) for node in graph.node if node.output[0] in before]
    behind = [node for node in graph.node if node.output[0] not in before]
    first, last, numbers = _around(model, joint, count)
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


def _joint(graph: onnx.GraphProto) -> str:
    """Return the name of the features as the pooling reads them: codes, halves or floats."""
    maker = producers(graph)["features"]
    return str(maker.input[0]) if maker.op_type in ("DequantizeLinear", "Cast") else "features"


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for part in (result.input, result.output):
        part[:] = [names.get(name, name) for name in part]
    return result


def _around(
    model: onnx.ModelProto, joint: str, count: int
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return what stands before and behind what is computed for each copy, and the constants."""
    numbers: dict[str, np.ndarray] = {}

    def constant(name: str, values: Sequence[int] | int) -> str:
        numbers[f"{OURS}{name}"] = np.array(values, np.int64)
        return f"{OURS}{name}"

    def node(kind: str, inputs: Sequence[str], output: str, **form: Any) -> onnx.NodeProto:
        label = output.removeprefix(OURS)
        return helper.make_node(kind, inputs, [output], f"{OURS}{label}", **form)

    def turned(name: str, axes: Sequence[int], output: str) -> onnx.NodeProto:
        ends = np.full(len(axes), np.iinfo(np.int64).min).tolist()
        back = constant(f"back_{len(axes)}", [-1] * len(axes))
        places = constant(f"axes_{'_'.join(map(str, axes))}", axes)
        begin = constant(f"begin_{len(axes)}", ends)
        return node("Slice", [name, back, begin, places, back], output)

    first, shown = [], ["pixels"]
    for place, flip in enumerate(FLIPS[1:count], 1):
        shown.append(f"{OURS}pixels_{place}")
        first.append(turned("pixels", [OF_PIXELS[side] for side in flip], shown[-1]))
    first.append(node("Concat", shown, f"{_COPY}pixels", axis=0))
    maker = producers(model.graph)["features"]
    coded = maker.op_type == "DequantizeLinear"
    seen, last = f"{_COPY}{joint}", []
    if coded:
        last.append(node("DequantizeLinear", [seen, *maker.input[1:]], f"{OURS}seen"))
        seen = f"{OURS}seen"
    shape = constant("shape", [count, -1, *shapes(model)["features"][1:]])
    last.append(node("Reshape", [seen, shape], f"{OURS}copies"))
    parts = []
    for place, flip in enumerate(FLIPS[:count]):
        parts.append(f"{OURS}copy_{place}")
        which = constant(f"place_{place}", place)
        last.append(node("Gather", [f"{OURS}copies", which], parts[-1], axis=0))
        if flip:
            axes = [OF_FEATURES[side] for side in flip]
            last.append(turned(parts[-1], axes, f"{OURS}turned_{place}"))
            parts[-1] = f"{OURS}turned_{place}"
    while len(parts) > 1:
        one, other, *parts = parts
        parts.append(f"{OURS}sum_{len(last)}")
        last.append(node("Add", [one, other], parts[-1]))
    kind = np.float16 if maker.op_type == "Cast" else np.float32
    numbers[f"{OURS}share"] = np.array(1 / count, kind)
    mean = f"{OURS}mean" if coded else joint
    last.append(node("Mul", [parts[0], f"{OURS}share"], mean))
    if coded:
        last.append(node("QuantizeLinear", [mean, *maker.input[1:]], joint))
    return first, last, numbers
