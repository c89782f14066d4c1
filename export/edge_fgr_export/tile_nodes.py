"""What stands around the graph of one tile: it cuts, compares logits, gathers and stitches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edge_fgr.errors import ModelError
from edge_fgr_export.heads import head_of
from edge_fgr_export.nodes import needed_for

__all__ = ["CUT", "OURS", "TILE", "Joint", "Plan", "around", "joint_of", "side_of", "sides"]

OURS, TILE = "tiles/", "tile/"
"""How names begin: of what stands around, and of what belongs to one tile."""

CUT = f"{OURS}cut_shape"
"""The constant that says how pixels are cut."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a picture is cut, and what is worst; or how often it is turned.

    Attributes:
        mirrors: copies that are judged together (``mirrors``); with tiles, 1.
        tiles: along each side; 1 is the graph of one tile itself.
        good: the class that means "nothing found"; None: the highest logit decides.
    """

    tiles: int = 1
    good: int | None = None
    mirrors: int = 1


@dataclass(frozen=True, slots=True)
class Joint:
    """Where tiles and pictures meet in a graph.

    Attributes:
        name: of the tensor that the head reads: the embedding, or its codes.
        head: names of what the head makes.
        path: names of what stands between that tensor and the output ``embedding``.
    """

    name: str
    head: frozenset[str]
    path: frozenset[str]


def joint_of(graph: onnx.GraphProto) -> Joint:
    """Find where tiles and pictures will meet in the graph of one tile.

    Raises:
        ModelError: there is no single linear head, or it reads more than the embedding.
    """
    nodes = head_of(graph).nodes
    head = frozenset(name for node in nodes for name in node.output)
    made = {name for node in graph.node for name in node.output} - head
    read = {name for node in nodes for name in node.input} & made
    if len(read) != 1:
        raise ModelError("tiles need a head that reads the embedding alone")
    (name,) = read
    before = {n.output[0] for n in needed_for(graph, [name])}
    path = {n.output[0] for n in needed_for(graph, ["embedding"])} - before
    return Joint(name, head, frozenset(path))


def around(
    plan: Plan, name: str, known: Mapping[str, tuple[int, ...]], side: int
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return what stands around the graph of one tile, and its constants.

    Args:
        plan: how to cut and decide.
        name: of what the head reads.
        known: shapes of the outputs of one tile.
        side: of a tile, in pixels.
    """
    tiles, every = plan.tiles, plan.tiles**2
    classes, width = known["logits"][1], known["embedding"][1]
    channels, h, w = known["features"][1:]
    numbers: dict[str, list[int]] = {
        "cut_shape": [-1, tiles, side, tiles, side, 3],
        "tile_shape": [-1, side, side, 3],
        "logits_shape": [-1, every, classes],
        "embedding_shape": [-1, every, width],
        "classes": [2],
        "grid_shape": [-1, tiles, tiles, channels, h, w],
        "features_shape": [-1, channels, tiles * h, tiles * w],
    }
    if plan.good is not None:
        numbers["good"] = [plan.good]
        numbers["others"] = [place for place in range(classes) if place != plan.good]

    def node(kind: str, inputs: Iterable[str], output: str, **form: Any) -> onnx.NodeProto:
        named = [f"{OURS}{part[1:]}" if part.startswith("=") else part for part in inputs]
        label = f"{OURS}embedding" if output == name else f"{OURS}{output.removeprefix('=')}"
        made = label if output.startswith("=") else output
        return helper.make_node(kind, named, [made], label, **form)

    nodes = [
        node("Reshape", ["pixels", "=cut_shape"], "=split"),
        node("Transpose", ["=split"], "=sorted", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", ["=sorted", "=tile_shape"], f"{TILE}pixels"),
        node("Reshape", [f"{TILE}logits", "=logits_shape"], "=logits"),
    ]
    if plan.good is None:
        nodes.append(node("ReduceMax", ["=logits", "=classes"], "=score", keepdims=0))
    else:
        nodes += [
            node("Gather", ["=logits", "=others"], "=bad", axis=2),
            node("ReduceMax", ["=bad", "=classes"], "=worst_logit", keepdims=1),
            node("Gather", ["=logits", "=good"], "=good_logit", axis=2),
            node("Sub", ["=worst_logit", "=good_logit"], "=above_good"),
            node("Flatten", ["=above_good"], "=score", axis=1),
        ]
    nodes += [
        node("ArgMax", ["=score"], "=worst", axis=1, keepdims=1),
        node("Reshape", [f"{TILE}{name}", "=embedding_shape"], "=embeddings"),
        node("GatherND", ["=embeddings", "=worst"], name, batch_dims=1),
        node("Reshape", [f"{TILE}features", "=grid_shape"], "=grid"),
        node("Transpose", ["=grid"], "=rows", perm=[0, 3, 1, 4, 2, 5]),
        node("Reshape", ["=rows", "=features_shape"], "features"),
    ]
    return nodes, {f"{OURS}{key}": np.array(value, np.int64) for key, value in numbers.items()}


def side_of(model: onnx.ModelProto) -> int:
    """Return the side of a graph's input in pixels."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)


def sides(graph: onnx.GraphProto) -> list[onnx.TensorShapeProto.Dimension]:
    """Return the sides of input and features, which are those of a tile or of a picture."""
    features = next(output for output in graph.output if output.name == "features")
    ends = (graph.input[0], (1, 2)), (features, (2, 3))
    return [end.type.tensor_type.shape.dim[place] for end, places in ends for place in places]
