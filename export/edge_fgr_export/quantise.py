"""An fp32 graph to static QDQ INT8, for one target.

Activations have 8 bits and one scale each; weights int8, a scale per output channel; bias int32.
What makes the bits of ``portable`` equal everywhere (docs/same-bits.md):

- weights of dense Conv and Gemm are free of pair saturation (``weights``);
- all tensors along a residual chain share one scale, so that the addition is a plain integer
  addition, without the rounding in which processors differ (``groups``);
- the logits stay float: they come straight out of the last integer product, and float operations
  after it go value by value (``heads``).

A pooling other than the mean stays float (``float_pooling``), and ends the promise.

Rounded weights shift the mean of what they compute; the bias takes the expected shift back (bias
correction: Nagel et al. 2019, "Data-Free Quantization", section 4.2, with measured means).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr.errors import ModelError
from edge_fgr_export.entry import entry_of, write_int8_entry
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.groups import (
    absorbed,
    body_of,
    groups_of,
    kernel_of,
    kernels_of,
    scales_of,
)
from edge_fgr_export.heads import head_of, write_int8_head
from edge_fgr_export.nodes import attribute, constants, copied
from edge_fgr_export.qdq import Builder, Memory
from edge_fgr_export.ranges import Statistics
from edge_fgr_export.targets import TARGETS, Target
from edge_fgr_export.wide import write_wide

__all__ = ["Settings", "groups_of", "kernels_of", "quantise"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to quantise.

    Attributes:
        target: what the graph is for.
        joint: round weights jointly where the covariance of what they read is there.
        correct: let the bias take back what rounding adds on average.
        shift: ``(C,)``, what is taken from the logits.
        wide: convolutions, by name, whose weights keep more than 8 bits; see ``wide``.
        fine_head: the weights of the head have twice 8 bits; see ``heads``.
    """

    target: Target = TARGETS["portable"]
    joint: bool = True
    correct: bool = True
    shift: Doubles | None = None
    wide: frozenset[str] = field(default_factory=frozenset)
    fine_head: bool = False


def quantise(
    model: onnx.ModelProto,
    groups: Mapping[str, str],
    seen: Statistics,
    settings: Settings | None = None,
    memory: Memory | None = None,
) -> onnx.ModelProto:
    """Return the INT8 graph.

    Args:
        model: the fp32 graph of ``edge_fgr_export.graph``.
        groups: from ``groups_of``.
        seen: ranges of the groups, means of the tensors, covariances of what kernels read.
        settings: by default ``portable`` with all that helps.
        memory: weights that were rounded before, with the same ``seen``; takes in the new ones.

    Raises:
        ModelError: an operator, or a use of one, that has no integer form here.
    """
    return _Writer(model, groups, seen, settings or Settings(), memory).write()


class _Writer:
    """Walks the fp32 graph once and writes the INT8 one node by node."""

    def __init__(
        self,
        model: onnx.ModelProto,
        groups: Mapping[str, str],
        seen: Statistics,
        settings: Settings,
        memory: Memory | None,
    ) -> None:
        self._model, self._groups, self._seen, self._settings = model, dict(groups), seen, settings
        self._values, self._absorbed = constants(model), absorbed(model)
        self._exits = {output.name for output in model.graph.output}
        self._out = Builder(memory)
        self._entry = entry_of(model)
        target = settings.target
        scales = scales_of(model, groups, seen.ranges, tied=target.tied, symmetric=target.symmetric)
        for group, (scale, zero) in scales.items():
            self._out.constant(f"{group}_scale", scale)
            self._out.constant(f"{group}_zero", zero)

    def write(self) -> onnx.ModelProto:
        pixels = self._entry.output
        self._groups[pixels] = pixels
        self._offset = write_int8_entry(
            self._out, self._model, self._entry, symmetric=self._settings.target.symmetric
        )
        for node in body_of(self._model):
            getattr(self, f"_{node.op_type.lower()}")(node)
        self._pooling()
        self._head()
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(self._out.nodes)
        used = {name for node in self._out.nodes for name in node.input}
        tensors = self._out.tensors
        model.graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _conv(self, node: onnx.NodeProto) -> None:
        name, source = node.input[1], node.input[0]
        group, weights = self._groups[source], self._values[name]
        parts, settings = attribute(node, "group", 1), self._settings
        bias = self._bias_of(node)
        if node.name in settings.wide:
            moved = self._offset * weights.sum(axis=(1, 2, 3)) if self._is_entry(source) else 0.0
            self._finish(node, lambda result: self._wide(node, bias - moved, result))
            return
        # Depthwise: one input channel for each output, and no kernel multiplies in pairs.
        dense = parts == 1 or weights.shape[1] > 1 or len(weights) > parts
        covariance = self._seen.covariances.get(kernel_of(node, self._values))
        stored = self._out.weights(
            name,
            weights,
            bias,
            group,
            pair_safe=dense and settings.target.pair_safe,
            covariance=covariance if settings.joint else None,
        )
        added = self._out.bias(name, bias - self._shift(node, parts), group)
        self._compute(node, [self._read(source, node), stored, added])

    def _is_entry(self, name: str) -> bool:
        return bool(self._offset) and name == self._entry.output

    def _shift(self, node: onnx.NodeProto, parts: int) -> Doubles:
        """What rounding adds to each output on average, ``(M,)``; padding neglected."""
        source, name = node.input[:2]
        weights, means = self._values[name], self._seen.means[source]
        error = self._out.error(name, weights)  # (M, C / parts)
        if not self._settings.correct:
            means = np.zeros_like(means)
        shift: Doubles
        if parts == 1:
            shift = error @ means
        else:
            split = error.reshape(parts, -1, error.shape[1])
            shift = (split * means.reshape(parts, 1, -1)).sum(axis=2).reshape(-1)
        if self._is_entry(source):
            whole = error + weights.sum(axis=(2, 3), dtype=float)
            shift = shift + self._offset * whole.sum(axis=1)
        return shift

    def _add(self, node: onnx.NodeProto) -> None:
        self._compute(node, [self._read(name, node, i) for i, name in enumerate(node.input)])

    def _maxpool(self, node: onnx.NodeProto) -> None:
        self._compute(node, [self._read(node.input[0], node)])

    def _globalaveragepool(self, node: onnx.NodeProto) -> None:
        self._compute(node, [self._read(node.input[0], node)])

    def _flatten(self, node: onnx.NodeProto) -> None:
        """A change of shape: the same integers under another name."""
        self._groups[node.output[0]] = self._groups[node.input[0]]
        self._compute(node, [self._read(node.input[0], node)])

    def _unsqueeze(self, node: onnx.NodeProto) -> None:
        """The embedding once more, as features of one position."""
        self._out.constant(node.input[1], self._values[node.input[1]])
        self._out.nodes.append(copied(node, [*node.input], node.output[0]))

    def _relu(self, node: onnx.NodeProto) -> None:
        if node.input[0] not in self._absorbed:
            self._compute(node, [self._read(node.input[0], node)])

    def _clip(self, node: onnx.NodeProto) -> None:
        if node.input[0] not in self._absorbed:
            for name in filter(None, node.input[1:]):
                self._out.constant(name, self._values[name])
            self._compute(node, [self._read(node.input[0], node), *node.input[1:]])
            return
        if self._settings.target.symmetric:
            return  # it stays in front of the rounding
        bounds = [float(self._values[name]) for name in node.input[1:]]
        top = float(self._out.value(f"{self._groups[node.output[0]]}_scale")) * 255
        if len(bounds) > 1 and top > bounds[1] * 1.0001:
            raise ModelError(f"a Clip to {bounds} does not fit the range 0 to {top}")

    def _pooling(self) -> None:
        """A pooling that stays float: it reads codes, and the embedding is rounded."""
        pooling = float_pooling(self._model.graph)
        for node in pooling.nodes if pooling else ():
            inputs = []
            for place, name in enumerate(node.input):
                if name in self._values:
                    self._out.constant(name, self._values[name])
                coded = name in self._groups
                inputs.append(self._read(name, node, place) if coded else name)
            if node.output[0] in self._groups:
                self._compute(node, inputs)
            else:
                self._out.nodes.append(copied(node, inputs, node.output[0]))

    def _head(self) -> None:
        head, settings = head_of(self._model.graph), self._settings
        write_int8_head(
            self._out,
            head.gemm,
            self._groups["embedding"],
            self._values[head.weight],
            self._bias_of(head.gemm) - (0 if settings.shift is None else settings.shift),
            self._seen.means[head.seen] if settings.correct else None,
            l2=head.l2,
            fine=settings.fine_head,
            pair_safe=settings.target.pair_safe,
        )

    def _bias_of(self, node: onnx.NodeProto) -> Floats:
        if len(node.input) > 2:
            return self._values[node.input[2]]
        return np.zeros(len(self._values[node.input[1]]), np.float32)

    def _compute(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        """Write a node between codes."""
        self._finish(node, lambda result: self._out.nodes.append(copied(node, inputs, result)))

    def _finish(self, node: onnx.NodeProto, write: Callable[[str], None]) -> None:
        """Let ``write`` make a float tensor, and round it; an output gets a reading of its own."""
        vanished = self._absorbed.get(node.output[0], node)
        result = vanished.output[0]
        group, made = self._groups[result], f"{result}_f"
        # Codes around 0 do not end at 0, so that what cuts there must stay.
        cuts = vanished is not node and self._settings.target.symmetric
        write(f"{result}_uncut" if cuts else made)
        if cuts:
            for name in filter(None, vanished.input[1:]):
                self._out.constant(name, self._values[name])
            inputs = [f"{result}_uncut", *vanished.input[1:]]
            self._out.nodes.append(copied(vanished, inputs, made))
        self._out.round(made, result, group)
        if result in self._exits:
            self._out.read(result, group, result)

    def _wide(self, node: onnx.NodeProto, bias: Doubles, result: str) -> None:
        source = node.input[0]
        write_wide(
            self._out, node, (source, self._groups[source]), self._values[node.input[1]], bias,
            result,
        )  # fmt: skip

    def _read(self, name: str, reader: onnx.NodeProto, place: int = 0) -> str:
        result = f"{name}_for_{reader.output[0]}_{place}"
        return self._out.read(name, self._groups[name], result)
