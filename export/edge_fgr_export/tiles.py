"""One graph over the tiles of a picture, of which the worst decides (``edge_fgr_train.tiles``).

The graph of one tile, fp32 or INT8, is made like any other. Around it come, with names that begin
with ``tiles/``: what cuts the pixels (uint8, moved only), what compares the logits of the tiles,
and what gathers the embedding of the worst one. Behind that stands the head once more, under the
names that it has in a graph without tiles: logits are one product with the embedding in both, and
what reads or replaces heads need not know of tiles. What belongs to one tile is called ``tile/…``.

The logits that choose are float, but differences and largest values of the same floats are the same
on every processor, and codes are gathered as they are: a tile's bits are a picture's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_export.mirrors import mirrored
from edge_fgr_export.nodes import constants, drop_unused, needed_for, shapes
from edge_fgr_export.tile_nodes import CUT, OURS, TILE, Plan, around, joint_of, side_of, sides

__all__ = ["Plan", "Untiled", "tiled", "tiles_of", "untiled"]

_NAMELESS = "of "
"""Begins the name of a copy of a node without one: onnxruntime wants names to differ."""


@dataclass(frozen=True, slots=True)
class Untiled:
    """A graph over tiles taken apart.

    Attributes:
        plan: how it cuts and decides.
        choosing: the graph of one tile with the head that chooses the worst one.
        deciding: the same with the head that answers; another one where it was replaced since.
        around: the nodes that are neither.
    """

    plan: Plan
    choosing: onnx.ModelProto
    deciding: onnx.ModelProto
    around: tuple[onnx.NodeProto, ...]


def tiled(model: onnx.ModelProto, plan: Plan) -> onnx.ModelProto:
    """Return the graph of a whole picture, of tiles or of mirrored copies.

    Args:
        model: of one tile or copy: fp32, half or INT8, as this package makes it.
        plan: how to cut and decide.

    Raises:
        ModelError: the graph has no single linear head.
    """
    if plan.tiles == 1:
        return mirrored(model, plan.mirrors)
    graph, joint, known = model.graph, joint_of(model.graph), shapes(model)
    values = constants(model)
    own = {name for n in graph.node if n.output[0] in joint.head for name in n.input} - {
        name for n in graph.node if n.output[0] not in joint.head for name in n.input
    }
    renamed = {
        name: f"{TILE}{name}"
        for name in (
            *("pixels", "features", joint.name, *joint.path, *joint.head),
            *(own & values.keys()),
        )
    }
    inside = [_renamed(n, renamed, joint.head | joint.path) for n in graph.node]
    answers = [n for n in graph.node if n.output[0] in joint.head | joint.path]
    nodes, numbers = around(plan, joint.name, known, side_of(model))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    whole = result.graph
    del whole.node[:]
    whole.node.extend([*nodes[:3], *inside, *nodes[3:], *answers])
    whole.initializer.extend(
        numpy_helper.from_array(value, f"{TILE}{name}")
        for name, value in values.items()
        if name in own
    )
    whole.initializer.extend(numpy_helper.from_array(v, name) for name, v in numbers.items())
    drop_unused(whole)
    for dim in sides(whole):
        dim.dim_value *= plan.tiles
    onnx.checker.check_model(result, full_check=True)
    return result


def tiles_of(model: onnx.ModelProto) -> int:
    """Return how many tiles along a side a graph cuts its pixels into; 1: it has none."""
    for tensor in model.graph.initializer:
        if tensor.name == CUT:
            return int(numpy_helper.to_array(tensor)[1])
    return 1


def untiled(model: onnx.ModelProto) -> Untiled | None:
    """Take a graph over tiles apart; None: it has none, or is not just what ``tiled`` makes."""
    graph, values = model.graph, constants(model)
    if CUT not in values:
        return None
    others = values.get(f"{OURS}good")
    plan = Plan(int(values[CUT][1]), None if others is None else int(others.item()))
    ours = tuple(node for node in graph.node if node.name.startswith(OURS))
    copies = [node for node in graph.node if node.name.startswith(TILE)]
    try:
        name = next(n.output[0] for n in ours if n.name == f"{OURS}embedding")
    except StopIteration:
        return None
    behind = {n.output[0] for n in needed_for(graph, ["logits", "embedding"])} - {
        n.output[0] for n in needed_for(graph, [name])
    }
    answers = [n for n in graph.node if n.output[0] in behind]
    apart = {n.output[0] for n in (*ours, *copies, *answers)}
    body = [_back(n) for n in graph.node if n.output[0] not in apart]
    path = needed_for(graph, ["embedding"])
    path = [n for n in path if n.output[0] in behind]
    chosen = [_back(n) for n in copies]
    made = {n.output[0] for n in chosen}
    try:
        choosing = _apart(
            model,
            plan,
            [*body, *(n for n in path if n.output[0] not in made), *chosen],
            chooses=True,
        )
        deciding = _apart(model, plan, [*body, *answers], chooses=False)
        wanted, numbers = around(plan, name, shapes(choosing), side_of(choosing))
        same = joint_of(choosing.graph).name == joint_of(deciding.graph).name == name
    except (ModelError, LookupError, ValueError):
        return None
    same = same and {n.SerializeToString() for n in wanted} == {n.SerializeToString() for n in ours}
    same = same and all(np.array_equal(values.get(key, ()), v) for key, v in numbers.items())
    return Untiled(plan, choosing, deciding, ours) if same else None


def _renamed(
    node: onnx.NodeProto, names: Mapping[str, str], copied: frozenset[str]
) -> onnx.NodeProto:
    """Return a node of one tile; what stands behind it once more has a name of its own."""
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for part in (result.input, result.output):
        part[:] = [names.get(name, name) for name in part]
    if node.output[0] in copied:
        result.name = f"{TILE}{node.name or _NAMELESS + result.output[0]}"
    return result


def _back(node: onnx.NodeProto) -> onnx.NodeProto:
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for part in (result.input, result.output):
        part[:] = [name.removeprefix(TILE) for name in part]
    name = node.name.removeprefix(TILE)
    if name.startswith(_NAMELESS):
        result.ClearField("name")
    else:
        result.name = name
    return result


def _apart(
    model: onnx.ModelProto, plan: Plan, nodes: Iterable[onnx.NodeProto], *, chooses: bool
) -> onnx.ModelProto:
    """Return a graph of one tile of some of the nodes of a picture's.

    Args:
        model: of a picture.
        plan: how it is cut.
        nodes: of one tile; the path to the embedding may stand behind what reads it.
        chooses: whether the head is the one that chooses the tile.
    """
    values = constants(model)
    own = {n.removeprefix(TILE): v for n, v in values.items() if n.startswith(TILE) and chooses}
    values = {n: v for n, v in values.items() if not n.startswith((TILE, OURS))} | own
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    waiting, known = list(nodes), {"pixels", "", *values}
    del graph.node[:], graph.initializer[:]
    while waiting:
        ready = next((n for n in waiting if known >= {*n.input}), waiting[0])
        waiting.remove(ready)
        known.update(ready.output)
        graph.node.append(ready)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items())
    drop_unused(graph)
    for dim in sides(graph):
        dim.dim_value //= plan.tiles
    if chooses:
        classes = int(constants(model)[f"{OURS}logits_shape"][2])
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    return result
