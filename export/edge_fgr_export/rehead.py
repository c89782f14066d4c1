"""Another linear head on an exported model: the backbone stays as it is, to the last byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr.errors import ModelError
from edge_fgr_export.heads import head_of, write_fp32_head, write_int8_head
from edge_fgr_export.nodes import constants, drop_unused, producers, shapes
from edge_fgr_export.qdq import Builder

__all__ = ["rehead"]

Floats = npt.NDArray[np.float32]

_OUTPUTS = ["logits", "embedding", "features"]


def rehead(
    model: onnx.ModelProto,
    weight: Floats,
    bias: Floats,
    *,
    l2: bool,
) -> onnx.ModelProto:
    """Return a copy of ``model`` with another head: float, or on INT8 integers of twice 8 bits.

    The copy carries no contract: its labels are no longer those of ``model``.

    Args:
        model: fp32 or INT8, as this package exports it.
        weight: float32 ``(C, D)``.
        bias: float32 ``(C,)``.
        l2: scale the embedding to length 1 before the linear layer.

    Raises:
        ModelError: the graph is of another form, or the head does not fit its embedding.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.metadata_props[:]
    graph = result.graph
    outputs = [output.name for output in graph.output]
    if outputs != _OUTPUTS or "embedding" not in producers(graph):
        raise ModelError("a new head needs a model that edge-fgr exported")
    old = head_of(graph)
    width = shapes(result)["embedding"][1:]
    fits = weight.ndim == 2 and weight.shape[1:] == width and bias.shape == weight.shape[:1]
    if not fits:
        raise ModelError(
            f"a head of weights {weight.shape} and bias {bias.shape} does not fit an embedding "
            f"of {width}"
        )
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    kept = [node for node in graph.node if node not in old.nodes]
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused(graph)  # the old head's constants
    source = producers(graph)["embedding"]
    if source.op_type == "DequantizeLinear":
        out, group = _beside(model, source)
        inside = set(out.tensors)
        write_int8_head(out, old.gemm, group, weight, bias, None, l2=l2, fine=True)
        graph.node.extend(out.nodes)
        graph.initializer.extend(t for name, t in out.tensors.items() if name not in inside)
    else:
        write_fp32_head(graph, old.gemm, weight, bias, l2=l2)
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(weight)
    onnx.checker.check_model(result, full_check=True)
    return result


def _beside(model: onnx.ModelProto, source: onnx.NodeProto) -> tuple[Builder, str]:
    """Return a builder that knows the codes of the embedding, and the name of their group."""
    values, out = constants(model), Builder()
    codes, scale, zero = source.input
    group = scale.removesuffix("_scale")
    if [codes, scale, zero] != ["embedding_q", f"{group}_scale", f"{group}_zero"]:
        raise ModelError("a new head needs a model that edge-fgr exported")
    for name in (scale, zero):
        out.constant(name, values[name])
    return out, group
