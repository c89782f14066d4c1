"""Which tensors are rounded to 8 bits, and which of them go together.

A *group* shares scale and zero point; groups that are *tied* share the scale. What meets in an Add
is tied, along the whole residual chain: where all scales are equal, adding codes is a plain
addition of integers, whatever their zero points. So tensors that cannot be negative keep all codes
for 0 and above, even where they are added to others.

Clip and Relu to 0 and above vanish where they alone read a Conv or an Add: rounding to codes whose
lowest stands for 0 does the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edge_fgr.errors import ModelError
from edge_fgr_export.entry import entry_of
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.heads import head_of
from edge_fgr_export.moments import Kernel
from edge_fgr_export.nodes import attribute, constants, reads
from edge_fgr_export.range_methods import Range

__all__ = [
    "Scale",
    "absorbed",
    "body_of",
    "find",
    "groups_of",
    "join",
    "kernel_of",
    "kernels_of",
    "scales_of",
]

Scale = tuple[np.float32, np.uint8 | np.int8]
"""Scale and zero point: value = (code - zero) * scale."""

_KNOWN = {"Conv", "Clip", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Flatten"}
_VIEWS = {"Flatten", "Unsqueeze"}
"""The same codes in another shape."""


def body_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes between the normalised pixels and the head, but for a float pooling.

    Raises:
        ModelError: an operator that has no integer form here.
    """
    pooling = float_pooling(model.graph)
    float_nodes = pooling.nodes if pooling else ()
    known = (*entry_of(model).nodes, *float_nodes, *head_of(model.graph).nodes)
    apart = {node.output[0] for node in known}
    nodes = [node for node in model.graph.node if node.output[0] not in apart]
    strange = {node.op_type for node in nodes} - _KNOWN
    if any(n.op_type == "Unsqueeze" and n.output[0] == "features" for n in nodes):
        strange.discard("Unsqueeze")  # an embedding shown as features of one position
    if strange:
        raise ModelError(
            f"INT8 has no form of {', '.join(sorted(strange))} here (networks with squeeze-and-"
            "excitation or swish often lose much of their accuracy in 8 bits): deploy "
            "--target fp16 or fp32, or train an EfficientNet-Lite"
        )
    return nodes


def absorbed(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the Clip or Relu that vanishes into the rounding of each tensor that feeds one."""
    times, values = reads(model.graph), constants(model)
    sources = {node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Add")}
    return {
        node.input[0]: node
        for node in model.graph.node
        if _cuts_at_zero(node, values) and node.input[0] in sources and times[node.input[0]] == 1
    }


def groups_of(model: onnx.ModelProto, *, tied: bool = True) -> dict[str, str]:
    """Return each tensor that is rounded to 8 bits with the group whose codes it takes.

    Tensors that meet in an Add, and its sum, are joined along the whole chain (union-find), those
    that can be negative apart from those that cannot. Both ends of a MaxPool are joined too.

    Args:
        model: the fp32 graph.
        tied: join what meets in an Add; the same bits everywhere need it.

    Raises:
        ModelError: an operator that has no integer form here.
    """
    nodes, vanish = body_of(model), absorbed(model)
    names = [node.output[0] for node in nodes if node.op_type not in _VIEWS]
    if float_pooling(model.graph):
        names.append("embedding")
    root = {name: name for name in names if name not in vanish}
    unsigned = _unsigned(nodes, constants(model))
    for members in _met(nodes, vanish, tied=tied):
        if not root.keys() >= {*members}:
            raise ModelError("Add or MaxPool of something that is not rounded has no INT8 form")
        join(root, [name for name in members if name in unsigned])
        join(root, [name for name in members if name not in unsigned])
    return {name: find(root, name) for name in root}


def kernels_of(model: onnx.ModelProto) -> list[Kernel]:
    """Return what the convolutions read, each once."""
    values = constants(model)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    return list(dict.fromkeys(kernel_of(node, values) for node in convs))


def kernel_of(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> Kernel:
    """Return what a convolution reads."""
    size = values[node.input[1]].shape[2:]
    return Kernel(node.input[0], tuple(size), attribute(node, "group", 1))


def scales_of(
    model: onnx.ModelProto,
    groups: Mapping[str, str],
    ranges: Mapping[str, Range],
    *,
    tied: bool = True,
    symmetric: bool = False,
) -> dict[str, Scale]:
    """Return the scale and zero point of each group.

    Tied groups take the scale of the widest; the ranges of the others grow in proportion.

    Args:
        model: the fp32 graph.
        groups: of ``groups_of`` with the same ``tied``.
        ranges: of each group.
        tied: one scale for what meets in an Add.
        symmetric: int8 codes around 0 instead of uint8.
    """
    root = {group: group for group in ranges}
    for members in _met(body_of(model), absorbed(model), tied=tied):
        join(root, [groups[name] for name in members])
    if symmetric:
        wide = {group: max(-low, high) for group, (low, high) in ranges.items()}
        codes: dict[str, Scale] = {}
        for group in wide:
            together = [wide[other] for other in wide if find(root, other) == find(root, group)]
            codes[group] = np.float32(max(together) / 127), np.int8(0)
        return codes
    widest: dict[str, float] = {}
    for group, (low, high) in ranges.items():
        tie = find(root, group)
        widest[tie] = max(widest.get(tie, 0.0), high - low)
    found: dict[str, Scale] = {}
    for group, (low, high) in ranges.items():
        width = widest[find(root, group)]
        scale = np.float32(width / 255)
        zero = np.rint(-low * (width / (high - low)) / scale)
        found[group] = scale, np.uint8(np.clip(zero, 0, 255))
    return found


def _unsigned(nodes: Sequence[onnx.NodeProto], values: Mapping[str, np.ndarray]) -> set[str]:
    """Return the tensors that cannot be negative."""
    found: set[str] = set()
    for node in nodes:
        keeps = node.op_type in _VIEWS or node.op_type in ("Add", "MaxPool", "GlobalAveragePool")
        if _cuts_at_zero(node, values) or (keeps and found >= {*node.input}):
            found.add(node.output[0])
    return found


def _cuts_at_zero(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    if node.op_type == "Clip" and len(node.input) > 1:
        return node.input[1] in values and float(values[node.input[1]]) == 0
    return bool(node.op_type == "Relu")


def _met(
    nodes: Sequence[onnx.NodeProto], vanish: Mapping[str, onnx.NodeProto], *, tied: bool
) -> list[list[str]]:
    """Return the tensors that share a scale: both ends of MaxPool, and what meets in an Add."""
    kinds = ("Add", "MaxPool") if tied else ("MaxPool",)
    return [
        [*node.input, vanish.get(node.output[0], node).output[0]]
        for node in nodes
        if node.op_type in kinds
    ]


def join(root: dict[str, str], members: Sequence[str]) -> None:
    """Let members have one root (union-find)."""
    for name in members:
        root[find(root, name)] = find(root, members[-1])


def find(root: Mapping[str, str], name: str) -> str:
    """Return the root of ``name``."""
    while root[name] != name:
        name = root[name]
    return name
