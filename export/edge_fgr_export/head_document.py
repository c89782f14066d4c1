"""The head of an exported graph as the runtime reads it: ``edge_fgr.head``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr.errors import ModelError
from edge_fgr.head import Head
from edge_fgr_export.heads import head_of
from edge_fgr_export.nodes import constants, producers
from edge_fgr_export.tiles import tiles_of

__all__ = ["head_in"]


def head_in(model: onnx.ModelProto) -> Head:
    """Return weights and bias of the graph itself: those that its own embedding goes with.

    Raises:
        ModelError: there is no single linear layer between embedding and logits.
    """
    graph = model.graph
    found, values, made = head_of(graph), constants(model), producers(graph)

    def value(name: str) -> npt.NDArray[np.float32]:
        if name in values:
            return np.asarray(values[name], np.float32)
        node = made.get(name)
        if node is None or node.op_type not in ("DequantizeLinear", "Cast"):
            raise ModelError(f"{name}: is no constant of the head")
        if node.op_type == "Cast":
            return value(node.input[0])
        codes, scale = (np.asarray(values[part], np.float64) for part in node.input[:2])
        shape = (-1,) + (1,) * (codes.ndim - 1)
        return np.asarray(codes * scale.reshape(shape), np.float32)

    weight = value(found.weight)
    kinds = {node.op_type for node in found.nodes}
    if "Split" in kinds:  # a fine head: what the first half left stands in the second
        half = len(weight) // 2
        weight = weight[:half] + weight[half:]
    if found.l2 and "Sqrt" in kinds:  # INT8: the bias follows the division
        bias = value(found.nodes[-1].input[1])
    elif len(found.gemm.input) > 2:
        bias = value(found.gemm.input[2])[: len(weight)]
    else:
        bias = np.zeros(len(weight), np.float32)
    return Head(weight, bias, found.l2, tiles_of(model))
