"""An fp32 graph with weights and arithmetic of 16 bits, by onnxruntime's own converter."""

from __future__ import annotations

import warnings

import onnx

from edge_fgr.errors import ModelError
from edge_fgr_export.float_pooling import float_pooling

__all__ = ["to_half"]


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float16 copy; pixels stay uint8, outputs float32.

    Raises:
        ModelError: the converter gave no valid graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    pooling = float_pooling(model.graph)  # stays float32: cubes do not fit 16 bits
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers too small for 16 bits become the smallest
        # Pixels are normalised in fp32: a DequantizeLinear to float16 needs opset 19.
        half: onnx.ModelProto = convert_float_to_float16(
            copy,
            keep_io_types=True,
            op_block_list=["DequantizeLinear"],
            node_block_list=[node.name for node in pooling.nodes] if pooling else None,
        )
    # Its notes of shapes would be false in a graph over tiles or mirrored copies.
    del half.graph.value_info[:]
    # The converter adds what it casts to the end of the graph.
    OnnxModel(half).topological_sort(is_deterministic=True)
    try:
        onnx.checker.check_model(half, full_check=True)
    except Exception as error:  # onnx's errors share no base class
        raise ModelError(f"float16: the converter gave no valid graph ({error})") from None
    return half
