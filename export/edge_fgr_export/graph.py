"""A network as an fp32 ONNX graph in the house's form.

Opset 18, IR version 10. ``pixels`` uint8 ``(N, H, W, 3)`` → Transpose → DequantizeLinear, which
*is* the normalisation: (pixel - 127) / 128 is a scale and a zero point. BatchNorm and SAME padding
are folded into Conv by the exporter; the mean over positions becomes GlobalAveragePool, which has
an integer kernel. Outputs: ``logits``, ``embedding``, ``features``.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_train.network import Network

__all__ = ["IR_VERSION", "OPSET", "constants", "from_network"]

OPSET, IR_VERSION = 18, 10


def from_network(network: Network, size: int) -> onnx.ModelProto:
    """Export ``network`` for square inputs of ``size`` pixels and any number of images.

    Raises:
        ModelError: the exporter produced a graph that is not in the expected form.
    """
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
    _strip(model)
    _fold_normalisation(model)
    _pool(model)
    model.ir_version = IR_VERSION
    model.producer_name = "edge-fgr"
    onnx.checker.check_model(model, full_check=True)
    return model


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about its own source files: paths do not belong in a model."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    graph.doc_string = model.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    graph.name = "edge_fgr"


def _fold_normalisation(model: onnx.ModelProto) -> None:
    """Replace Transpose, Cast, Sub, Div by Transpose and DequantizeLinear: the same numbers."""
    graph = model.graph
    head = list(graph.node[:4])
    if [node.op_type for node in head] != ["Transpose", "Cast", "Sub", "Div"]:
        raise ModelError("the exported graph does not begin with the normalisation")
    values = constants(model)
    zero, divisor = (float(values[node.input[1]]) for node in head[2:])
    scale = 1 / divisor
    if zero != round(zero) or np.float32(scale) * np.float32(divisor) != 1:
        raise ModelError(f"a normalisation by {zero} and {divisor} does not fit uint8")
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["pixels_nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node(
            "DequantizeLinear",
            ["pixels_nchw", "pixels_scale", "pixels_zero"],
            [head[3].output[0]],
            "normalise",
        ),
    ]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.asarray(scale, np.float32), "pixels_scale"),
            numpy_helper.from_array(np.asarray(zero, np.uint8), "pixels_zero"),
        ]
    )
    _replace(graph, head, nodes, at=0)
    _drop_unused(graph)


def _pool(model: onnx.ModelProto) -> None:
    graph = model.graph
    (mean,) = (node for node in graph.node if node.op_type == "ReduceMean")
    place = list(graph.node).index(mean)
    nodes = [
        helper.make_node("GlobalAveragePool", [mean.input[0]], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], [mean.output[0]], "flatten", axis=1),
    ]
    _replace(graph, [mean], nodes, at=place)
    _drop_unused(graph)


def _replace(
    graph: onnx.GraphProto, old: list[onnx.NodeProto], new: list[onnx.NodeProto], *, at: int
) -> None:
    rest = [node for node in graph.node if node not in old]
    nodes = [*rest[:at], *new, *rest[at:]]
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
