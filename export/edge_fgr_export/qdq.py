"""The pieces of a QDQ graph: tensors as codes, weights and biases as integers.

A tensor T of the fp32 graph that is rounded stands as ``T_q`` (uint8). Its group G of tensors has
the constants ``G_scale`` and ``G_zero``. Every reader gets a DequantizeLinear of its own: that is
the form which runtimes fuse.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edge_fgr_export.weights import quantise_weights

__all__ = ["Builder", "Memory"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

Memory = dict[tuple[str, bytes], tuple[npt.NDArray[np.int8], Floats]]
"""Weights that were rounded, by name and all that they depend on but the covariance."""


class Builder:
    """Nodes and constants of an INT8 graph that is being written."""

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory: Memory = {} if memory is None else memory
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray | np.generic) -> None:
        """Add a constant."""
        self.tensors[name] = numpy_helper.from_array(np.asarray(value), name)

    def value(self, name: str) -> np.ndarray:
        """Return a constant."""
        return numpy_helper.to_array(self.tensors[name])

    def round(self, source: str, name: str, group: str) -> None:
        """Round the float tensor ``source`` to the codes of ``name``."""
        inputs = [source, f"{group}_scale", f"{group}_zero"]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_q"], f"{name}/q"))

    def read(self, name: str, group: str, result: str, axis: int | None = None) -> str:
        """Turn the codes of ``name`` to the float tensor ``result``; return its name."""
        inputs = [f"{name}_q", f"{group}_scale", f"{group}_zero"]
        node = helper.make_node("DequantizeLinear", inputs, [result], f"{result}/dq")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
        return result

    def weights(
        self,
        name: str,
        weights: Floats,
        bias: Floats,
        group: str,
        *,
        pair_safe: bool,
        covariance: Doubles | None = None,
    ) -> str:
        """Add weights ``(M, …)`` as int8 with a scale per output channel; return their name.

        Args:
            name: of the weights in the fp32 graph.
            weights: float32.
            bias: ``(M,)``. A channel without weights still has a bias, which must fit int32 in
                units of its scale.
            group: of the tensor that they are multiplied with.
            pair_safe: as in ``quantise_weights``.
            covariance: as in ``quantise_weights``.
        """
        least = self._least(bias, group)
        parts = (weights.tobytes(), least.tobytes(), bytes([pair_safe, covariance is None]))
        key = name, hashlib.sha256(b"".join(parts)).digest()
        if key not in self._memory:
            self._memory[key] = quantise_weights(
                weights, least, pair_safe=pair_safe, covariance=covariance
            )
        values, scales = self._memory[key]
        self.constant(f"{name}_q", values)
        self.constant(f"{name}_scale", scales)
        self.constant(f"{name}_zero", np.zeros(len(scales), np.int8))
        return self.read(name, name, name, axis=0)

    def rounded(self, weights: Floats, bias: Floats, group: str, *, pair_safe: bool) -> Floats:
        """Return weights ``(M, D)`` as ``weights`` would round them, in float."""
        values, scales = quantise_weights(weights, self._least(bias, group), pair_safe=pair_safe)
        return values * scales[:, None]

    def _least(self, bias: Floats, group: str) -> Floats:
        unit = np.float32(self.value(f"{group}_scale"))
        least: Floats = (np.abs(bias) / (unit * np.float32(2**24))).astype(np.float32)
        return least

    def bias(self, weights: str, bias: Floats | Doubles, group: str) -> str:
        """Add a bias ``(M,)`` as int32 at the scale of the products: its sum is not rounded again.

        Args:
            weights: name of the weights, which were added before.
            bias: in float.
            group: of the tensor that the weights are multiplied with.
        """
        name = f"{weights}_bias"
        unit = (self.value(f"{group}_scale") * self.value(f"{weights}_scale")).astype(np.float32)
        self.constant(f"{name}_q", np.rint(bias / unit).astype(np.int32))
        self.constant(f"{name}_scale", unit)
        self.constant(f"{name}_zero", np.zeros(len(unit), np.int32))
        return self.read(name, name, name, axis=0)

    def error(self, name: str, weights: Floats) -> Doubles:
        """Return what rounding added to the weights, summed over kernel positions: ``(M, C)``."""
        values, scales = self.value(f"{name}_q"), self.value(f"{name}_scale")
        shape = (len(weights), *[1] * (weights.ndim - 1))
        error = (values * scales.reshape(shape).astype(float) - weights).reshape(
            *weights.shape[:2], -1
        )
        summed: Doubles = error.sum(axis=2)
        return summed
