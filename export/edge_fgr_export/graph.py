"""A network as an fp32 ONNX graph in the house's form.

Opset 18, IR version 10. ``pixels`` uint8 ``(N, H, W, 3)`` are normalised as ``entry`` says.
BatchNorm and SAME padding are folded into Conv by torch's exporter. A mean over positions becomes
GlobalAveragePool, which has an integer kernel, and a change of shape to rows becomes Flatten.
Outputs: ``logits``, ``embedding``, ``features``. Operators that this package does not know stay as
torch gives them: fp32 runs them, ``quantise`` refuses them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from math import prod

import onnx
import torch
from onnx import helper

from edge_fgr.errors import ModelError
from edge_fgr_export.entry import fold_entry
from edge_fgr_export.nodes import attribute, constants, drop_unused, producers, replace, shapes
from edge_fgr_train.network import Network

__all__ = ["IR_VERSION", "OPSET", "from_network"]

OPSET, IR_VERSION = 18, 10

Shapes = Mapping[str, tuple[int, ...]]


def from_network(network: Network, size: int) -> onnx.ModelProto:
    """Export ``network`` for square inputs of ``size`` pixels and any number of images.

    Of one that decides by tiles, or together with mirrored copies, it is the graph of one of them:
    ``tiles.tiled`` and ``mirrors.mirrored`` make the whole.

    Raises:
        ModelError: the exporter failed, or its graph does not begin with the normalisation.
    """
    size //= network.tiles
    network = network.single()
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch's exporter
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits", "embedding", "features"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    if program is None:
        raise ModelError("the ONNX exporter gave no graph")
    model = program.model_proto
    known = shapes(model)
    _strip(model)
    _straighten(model, known)
    fold_entry(model)
    _pool(model, known)
    _flatten(model, known)
    model.ir_version = IR_VERSION
    model.producer_name = "edge-fgr"
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about its own source files: paths do not belong in a model."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    graph.doc_string = model.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    graph.name = "edge_fgr"


def _straighten(model: onnx.ModelProto, known: Shapes) -> None:
    """Undo a Gather that puts a mean over positions in the order in which it lies already.

    torch's adaptive pooling to 1 x 1 ends in ``as_strided`` when its input is channels-last; the
    exporter spells that out as a Gather of the flattened tensor by an index of its own shape.
    """
    graph, made = model.graph, producers(model.graph)
    for node in graph.node:
        flat = made.get(node.input[0]) if node.op_type == "Gather" else None
        mean = made.get(flat.input[0]) if flat and flat.op_type == "Reshape" else None
        if not flat or not mean or mean.op_type != "ReduceMean":
            continue
        rows, same = known.get(flat.output[0], ()), known.get(node.output[0], ())
        if len(rows) == 1 and same == known.get(mean.output[0]):
            for reader in graph.node:
                for place, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[place] = mean.output[0]
    drop_unused(graph)


def _pool(model: onnx.ModelProto, known: Shapes) -> None:
    """Write a mean over the positions of ``(N, C, h, w)`` as GlobalAveragePool."""
    graph, values = model.graph, constants(model)
    means = [
        node
        for node in graph.node
        if node.op_type == "ReduceMean"
        and node.input[-1] in values  # else over all axes
        and sorted(axis % 4 for axis in values[node.input[-1]].tolist()) == [2, 3]
        and _rank_before(node, known) == 4
    ]
    for i, mean in enumerate(means):
        place, number = list(graph.node).index(mean), f"_{i}" if i else ""
        pooled = mean.output[0] if attribute(mean, "keepdims", 1) else f"pooled{number}"
        nodes = [
            helper.make_node("GlobalAveragePool", [mean.input[0]], [pooled], f"pool{number}"),
        ]
        if pooled != mean.output[0]:
            flatten = helper.make_node(
                "Flatten", [pooled], [mean.output[0]], f"flatten{number}", axis=1
            )
            nodes.append(flatten)
        replace(graph, [mean], nodes, at=place)


def _rank_before(mean: onnx.NodeProto, known: Shapes) -> int:
    kept = bool(attribute(mean, "keepdims", 1))
    return len(known.get(mean.output[0], ())) + (0 if kept else 2)


def _flatten(model: onnx.ModelProto, known: Shapes) -> None:
    """Write a Reshape of ``(N, …)`` to ``(N, K)`` as Flatten, which needs no constant."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Reshape"]:
        before, after = (known.get(name, ()) for name in (node.input[0], node.output[0]))
        # A size that varies is 0. Where the rest is as long before as after, N stays N.
        if len(after) == 2 and before[:1] == after[:1] == (0,) and prod(before[1:]) == after[1] > 0:
            place = list(graph.node).index(node)
            flat = helper.make_node("Flatten", node.input[:1], node.output, node.name, axis=1)
            replace(graph, [node], [flat], at=place)
