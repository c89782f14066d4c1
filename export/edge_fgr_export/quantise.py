"""An fp32 graph to static QDQ INT8, ``portable``: the same integers on every processor.

Activations uint8, one scale each; weights int8, a scale per output channel; bias int32. What makes
the bits equal everywhere (docs/same-bits.md):

- weights of dense Conv and Gemm are free of pair saturation (``weights``);
- all tensors along a residual chain share one scale and zero point, so that the addition is a plain
  integer addition, without the rounding in which processors differ;
- the logits stay float: they come straight out of the last integer product.

Rounded weights shift the mean of what they compute; the bias takes the expected shift back (bias
correction: Nagel et al. 2019, "Data-Free Quantization", section 4.2, with measured means).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_export.graph import constants
from edge_fgr_export.ranges import Statistics
from edge_fgr_export.weights import quantise_weights

__all__ = ["groups_of", "kernels_of", "quantise"]

_KNOWN = {"Transpose", "DequantizeLinear", "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten",
          "Gemm"}  # fmt: skip


def groups_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return each tensor that is rounded to 8 bits with the group whose scale it takes.

    A tensor that only feeds a Clip is not rounded: the clipped one is. Tensors that meet in an
    Add, and its sum, are joined along the whole chain (union-find).

    Raises:
        ModelError: an operator that this quantiser does not know.
    """
    nodes = model.graph.node
    if strange := sorted({node.op_type for node in nodes} - _KNOWN):
        raise ModelError(f"{', '.join(strange)} cannot be quantised by this exporter")
    clipped = {node.input[0] for node in nodes if node.op_type == "Clip"}
    names = [
        node.output[0]
        for node in nodes
        if node.op_type in ("Conv", "Clip", "Add", "GlobalAveragePool")
        and node.output[0] not in clipped
    ]
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for node in nodes:
        if node.op_type == "Add":
            if not all(name in root for name in node.input):
                raise ModelError("an Add of something that is not rounded cannot be quantised")
            for name in node.input:
                root[find(name)] = find(node.output[0])
    return {name: find(name) for name in names}


def kernels_of(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Return the tensors that dense convolutions read, and the size of the kernel that does."""
    values = constants(model)
    return {
        node.input[0]: values[node.input[1]].shape[2:]
        for node in model.graph.node
        if node.op_type == "Conv" and _group(node) == 1
    }


def quantise(
    model: onnx.ModelProto, groups: Mapping[str, str], seen: Statistics
) -> onnx.ModelProto:
    """Return the INT8 graph.

    Args:
        model: the fp32 graph of ``edge_fgr_export.graph``.
        groups: from ``groups_of``.
        seen: ranges of the groups and means of the tensors.
    """
    return _Writer(model, groups, seen).write()


def _group(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


class _Writer:
    """Walks the fp32 graph once and writes the INT8 one node by node."""

    def __init__(self, model: onnx.ModelProto, groups: Mapping[str, str], seen: Statistics) -> None:
        self._model, self._groups = model, groups
        self._values = constants(model)
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._clip_of = {n.input[0]: n for n in model.graph.node if n.op_type == "Clip"}
        self._scales: dict[str, float] = {}
        self._means = dict(seen.means)
        self._covariances = seen.covariances
        for group, (low, high) in seen.ranges.items():
            scale = np.float32((high - low) / 255)
            self._scales[group] = float(scale)
            self._constant(f"{group}_scale", scale)
            self._constant(f"{group}_zero", np.uint8(np.clip(np.rint(-low / scale), 0, 255)))

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        for node in graph.node:
            getattr(self, f"_{node.op_type.lower()}")(node)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        model.graph.initializer.extend(t for name, t in self._tensors.items() if name in used)
        onnx.checker.check_model(model, full_check=True)
        return model

    # Each tensor T of the fp32 graph that is rounded stands as T_q (uint8) in the INT8 graph.
    # Every reader gets a DequantizeLinear of its own: that is the form which runtimes fuse.

    def _transpose(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        self._nodes.append(copy)

    def _dequantizelinear(self, node: onnx.NodeProto) -> None:
        """Pixels are rounded already: their scale and zero point are the normalisation."""
        scale, zero = (self._values[name] for name in node.input[1:])
        self._groups = {**self._groups, node.output[0]: node.output[0]}
        self._scales[node.output[0]] = float(scale)
        self._constant(f"{node.output[0]}_scale", scale)
        self._constant(f"{node.output[0]}_zero", zero)
        self._nodes[-1].output[0] = f"{node.output[0]}_q"

    def _conv(self, node: onnx.NodeProto) -> None:
        source = node.input[0]
        weights = self._weights(node, pair_safe=_group(node) == 1)
        bias = self._bias(node, source)
        clip = self._clip_of.get(node.output[0])
        result = clip.output[0] if clip else node.output[0]
        copy = helper.make_node("Conv", [self._read(source, node), weights, bias], [f"{result}_f"])
        copy.name = node.name
        copy.attribute.extend(node.attribute)
        self._nodes.append(copy)
        self._round(f"{result}_f", result)

    def _clip(self, node: onnx.NodeProto) -> None:
        """A clip to 0 and above is what rounding to an unsigned range does anyway."""
        bounds = [float(self._values[name]) for name in node.input[1:]]
        group = self._groups[node.output[0]]
        zero = numpy_helper.to_array(self._tensors[f"{group}_zero"])
        top = self._scales[group] * 255
        if bounds[0] != 0 or zero != 0 or top > bounds[1] * 1.0001:
            raise ModelError(f"a Clip to {bounds} does not fit the range 0 to {top}")

    def _add(self, node: onnx.NodeProto) -> None:
        inputs = [self._read(name, node, i) for i, name in enumerate(node.input)]
        result = node.output[0]
        self._nodes.append(helper.make_node("Add", inputs, [f"{result}_f"], node.name))
        self._round(f"{result}_f", result)

    def _globalaveragepool(self, node: onnx.NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        if source == "features":
            self._read(source, node, output="features")
        pooled = helper.make_node(
            "GlobalAveragePool", [self._read(source, node)], [f"{result}_f"], node.name
        )
        self._nodes.append(pooled)
        self._round(f"{result}_f", result)

    def _flatten(self, node: onnx.NodeProto) -> None:
        """A change of shape: the same integers under another name."""
        source, result = node.input[0], node.output[0]
        self._groups = {**self._groups, result: self._groups[source]}
        self._means[result] = self._means[source]
        flat = helper.make_node("Flatten", [self._read(source, node)], [f"{result}_f"], node.name)
        flat.attribute.extend(node.attribute)
        self._nodes.append(flat)
        self._round(f"{result}_f", result)
        if result == "embedding":
            self._read(result, node, output="embedding")

    def _gemm(self, node: onnx.NodeProto) -> None:
        weights = self._weights(node, pair_safe=True)
        inputs = [self._read(node.input[0], node), weights, self._bias(node, node.input[0])]
        copy = helper.make_node("Gemm", inputs, [node.output[0]], node.name)
        copy.attribute.extend(node.attribute)
        self._nodes.append(copy)

    def _weights(self, node: onnx.NodeProto, *, pair_safe: bool) -> str:
        name = node.input[1]
        # A channel without weights still has a bias, which must fit int32 in units of its scale.
        unit = np.float32(self._scales[self._groups[node.input[0]]])
        least = np.abs(self._bias_of(node)) / (unit * np.float32(2**24))
        joint = node.op_type == "Conv" and _group(node) == 1
        values, scales = quantise_weights(
            self._values[name],
            least,
            pair_safe=pair_safe,
            covariance=self._covariances.get(node.input[0]) if joint else None,
        )
        self._constant(f"{name}_q", values)
        self._constant(f"{name}_scale", scales)
        self._constant(f"{name}_zero", np.zeros(len(scales), np.int8))
        return self._dequantise(f"{name}_q", name, name, axis=0)

    def _bias(self, node: onnx.NodeProto, source: str) -> str:
        """int32 at the scale of the products, so that it is added without another rounding."""
        name = f"{node.input[1]}_bias"
        scales = numpy_helper.to_array(self._tensors[f"{node.input[1]}_scale"])
        unit = (np.float32(self._scales[self._groups[source]]) * scales).astype(np.float32)
        bias = self._bias_of(node) - self._shift(node, source)
        self._constant(f"{name}_q", np.rint(bias / unit).astype(np.int32))
        self._constant(f"{name}_scale", unit)
        self._constant(f"{name}_zero", np.zeros(len(scales), np.int32))
        return self._dequantise(f"{name}_q", name, name, axis=0)

    def _shift(self, node: onnx.NodeProto, source: str) -> np.ndarray:
        """What rounding the weights adds to each output on average, ``(M,)``; padding neglected."""
        name = node.input[1]
        weights = self._values[name]
        values, scales = (
            numpy_helper.to_array(self._tensors[f"{name}_{part}"]) for part in ("q", "scale")
        )
        shape = (len(weights), *[1] * (weights.ndim - 1))
        error = values * scales.reshape(shape).astype(float) - weights
        error = error.reshape(*weights.shape[:2], -1).sum(axis=2)  # (M, C) or depthwise (M, 1)
        means = self._means[source]
        shift: np.ndarray = error[:, 0] * means if error.shape[1] == 1 else error @ means
        return shift

    def _bias_of(self, node: onnx.NodeProto) -> np.ndarray:
        if len(node.input) > 2:
            return self._values[node.input[2]]
        return np.zeros(len(self._values[node.input[1]]), np.float32)

    def _read(self, name: str, reader: onnx.NodeProto, place: int = 0, output: str = "") -> str:
        result = output or f"{name}_for_{reader.output[0]}_{place}"
        return self._dequantise(f"{name}_q", self._groups[name], result)

    def _round(self, source: str, name: str) -> None:
        group = self._groups[name]
        inputs = [source, f"{group}_scale", f"{group}_zero"]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_q"], f"{name}/q"))

    def _dequantise(self, stored: str, group: str, result: str, axis: int | None = None) -> str:
        inputs = [stored, f"{group}_scale", f"{group}_zero"]
        node = helper.make_node("DequantizeLinear", inputs, [result], f"{result}/dq")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return result

    def _constant(self, name: str, value: np.ndarray | np.generic) -> None:
        self._tensors[name] = numpy_helper.from_array(np.asarray(value), name)
