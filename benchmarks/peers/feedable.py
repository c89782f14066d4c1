"""The model behind the input that Ultralytics feeds: float ``(N, 3, H, W)``, 0 to 1.

    float → times 255, rounded → uint8 → (N, H, W, 3) → the same graph → softmax

Needs the package onnx. The rounding gives back the very bytes that Ultralytics divided by 255.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_fgr.contract import Contract

__all__ = ["write_feedable"]

Shape = list[str | int | None]

_STRIDE = 32


def write_feedable(model: Path, contract: Contract, out: Path) -> None:
    """Write the graph with the metadata that Ultralytics reads.

    Args:
        model: one of ours: uint8 ``pixels`` ``(N, H, W, 3)`` to ``logits`` ``(N, C)``.
        contract: of the model.
        out: the ``.onnx`` file.
    """
    import numpy as np

    made = onnx.load(model)
    graph, size = made.graph, contract.geometry.size
    levels = numpy_helper.from_array(np.array(255, np.float32), "feedable_255")
    before = [
        helper.make_node("Mul", ["images", levels.name], ["feedable_scaled"]),
        helper.make_node("Round", ["feedable_scaled"], ["feedable_rounded"]),
        helper.make_node("Cast", ["feedable_rounded"], ["feedable_bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["feedable_bytes"], ["pixels"], perm=[0, 2, 3, 1]),
    ]
    after = [helper.make_node("Softmax", ["logits"], ["output0"], axis=-1)]
    nodes = [*before, *graph.node, *after]
    shape: Shape = ["N", 3, size, size]
    classes: Shape = ["N", len(contract.labels)]
    del graph.node[:], graph.input[:], graph.output[:], made.metadata_props[:]
    graph.node.extend(nodes)
    graph.initializer.append(levels)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, shape))
    graph.output.append(helper.make_tensor_value_info("output0", TensorProto.FLOAT, classes))
    names = {i: "/".join(label) for i, label in enumerate(contract.labels)}
    told = {
        "task": "classify",
        "names": str(names),
        "imgsz": str([size, size]),
        "stride": str(_STRIDE),
        "batch": "1",
        "channels": "3",
        "args": str({"dynamic": True}),
    }
    helper.set_model_props(made, told)
    onnx.checker.check_model(made)
    onnx.save(made, out)
