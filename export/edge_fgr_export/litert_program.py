"""An INT8 graph as a torch program, from which litert-torch makes the same integers once more.

Activations are (1, H, W, C): that is how LiteRT stores them, and no transposition is left. Padding
stands apart from what reads it; the converter joins them where LiteRT has a word for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edge_fgr.errors import ModelError
from edge_fgr_export.heads import Head as Found
from edge_fgr_export.heads import head_of
from edge_fgr_export.litert_ends import Head, Table
from edge_fgr_export.litert_pieces import Codes, Convolution, MaxPool, Weights, Window
from edge_fgr_export.nodes import constants, needed_for, producers

__all__ = ["Program"]

Floats = npt.NDArray[np.float32]
Step = Callable[..., torch.Tensor]


class Program(nn.Module):
    """The logits of an INT8 graph of this package, for one image.

    Attributes:
        sample: an input. Where all channels are normalised alike it is the normalised image, float
            ``(1, H, W, 3)``, which the converter replaces by its codes; those are the pixels.
            Otherwise it is the pixels themselves, uint8.
    """

    sample: torch.Tensor

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read the graph.

        Raises:
            ModelError: it has an operator, or a use of one, that has no form here.
        """
        super().__init__()
        if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise ModelError("LiteRT: the graph is float; give the INT8 model, not its fp32 twin")
        self._constants, self._makers = constants(model), producers(model.graph)
        self._steps: list[tuple[str, list[str], Step]] = []
        head = head_of(model.graph)
        apart = {node.output[0] for node in head.nodes}
        body = [n for n in needed_for(model.graph, ["logits"]) if n.output[0] not in apart]
        sizes = model.graph.input[0].type.tensor_type.shape.dim
        for node in self._enter(body, [1, *(size.dim_value for size in sizes[1:])]):
            if (make := getattr(self, f"_{node.op_type.lower()}", None)) is None:
                raise ModelError(f"LiteRT has no form of {node.op_type} here; use the .onnx file")
            make(node)
        self._leave(head)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``logits``, float32 ``(1, C)``."""
        values = {"pixels": pixels}
        for name, sources, step in self._steps:
            values[name] = step(*(values[source] for source in sources))
        return {"logits": values["logits"]}

    def _add_step(self, name: str, sources: list[str], step: Step) -> None:
        if isinstance(step, nn.Module):
            self.add_module(f"step_{len(self._steps)}", step)  # its weights belong to the program
        self._steps.append((name, sources, step))

    def _enter(self, body: list[onnx.NodeProto], shape: list[int]) -> list[onnx.NodeProto]:
        """Add the step from pixels to codes; return the nodes that are left."""
        if not body or body[0].op_type != "Transpose" or body[0].input[0] != "pixels":
            raise ModelError("LiteRT: the graph does not begin with the transposition of pixels")
        turned, rest = body[0].output[0], body[1:]
        reader = next(node for node in rest if turned in node.input)
        if reader.op_type == "DequantizeLinear":
            self.sample = torch.zeros(shape)
            self._add_step(turned, ["pixels"], self._codes(reader).of)
            return rest
        levels = np.tile(np.arange(256, dtype=np.float32), (3, 1))
        node = rest.pop(0)
        while node.op_type in ("Cast", "Sub", "Div"):
            if node.op_type != "Cast":
                other = self._constants[node.input[1]].reshape(-1, 1)
                levels = levels - other if node.op_type == "Sub" else levels / other
            node = rest.pop(0)
        if node.op_type != "QuantizeLinear":
            raise ModelError(f"LiteRT has no form of {node.op_type} before pixels are rounded")
        codes = self._codes(node)
        low, high = (end - codes.zero for end in (-128, 127))
        steps = np.clip(np.rint(levels / np.float32(codes.scale)), low, high)
        self.sample = torch.zeros(shape, dtype=torch.uint8)
        table = Table((steps * codes.scale).astype(np.float32), codes)
        self._add_step(node.output[0], ["pixels"], table)
        return rest

    def _quantizelinear(self, node: onnx.NodeProto) -> None:
        self._add_step(node.output[0], [node.input[0]], self._codes(node).of)

    def _dequantizelinear(self, node: onnx.NodeProto) -> None:
        if node.input[0] not in self._constants:
            self._add_step(node.output[0], [node.input[0]], self._codes(node).read)

    def _conv(self, node: onnx.NodeProto) -> None:
        codes = self._codes(self._makers[node.input[0]])
        layer = Convolution(Window.of(node), self._weights(*node.input[1:]), codes)
        self._add_step(node.output[0], [node.input[0]], layer)

    def _maxpool(self, node: onnx.NodeProto) -> None:
        layer = MaxPool(Window.of(node), self._codes(self._makers[node.input[0]]))
        self._add_step(node.output[0], [node.input[0]], layer)

    def _add(self, node: onnx.NodeProto) -> None:
        self._add_step(node.output[0], [*node.input], torch.add)

    def _relu(self, node: onnx.NodeProto) -> None:
        self._add_step(node.output[0], [*node.input], torch.relu)

    def _clip(self, node: onnx.NodeProto) -> None:
        bounds = [float(self._constants[name]) if name else None for name in node.input[1:]]
        clip: Step = lambda values: torch.clamp(values, *bounds)  # noqa: E731
        self._add_step(node.output[0], [node.input[0]], clip)

    def _globalaveragepool(self, node: onnx.NodeProto) -> None:
        pool: Step = lambda values: values.mean(dim=(1, 2), keepdim=True)  # noqa: E731
        self._add_step(node.output[0], [node.input[0]], pool)

    def _flatten(self, node: onnx.NodeProto) -> None:
        flat: Step = lambda values: values.permute(0, 3, 1, 2).flatten(1)  # noqa: E731
        self._add_step(node.output[0], [node.input[0]], flat)

    def _leave(self, head: Found) -> None:
        reader = self._makers[head.gemm.input[0]]
        codes = self._codes(reader)
        whole = self._weights(*head.gemm.input[1:])
        halves = 2 if any(node.op_type == "Split" for node in head.nodes) else 1
        shift = self._constants[head.nodes[-1].input[1]].copy() if head.l2 else None
        layer = Head(codes, whole.split(halves), shift)
        self._add_step("logits", [reader.input[0]], layer)

    def _codes(self, node: onnx.NodeProto) -> Codes:
        """Return the int8 codes of a node that rounds, or that reads."""
        scale, zero = (self._constants[name] for name in node.input[1:])
        if scale.ndim or zero.dtype not in (np.uint8, np.int8):
            raise ModelError(f"LiteRT: {node.name}: not one scale with codes of 8 bits")
        return Codes(float(scale), int(zero) - (128 if zero.dtype == np.uint8 else 0))

    def _weights(self, weight: str, bias: str = "") -> Weights:
        values, scales = (self._constants[name] for name in self._makers[weight].input[:2])
        added = np.zeros(len(values), np.float32)
        if bias:
            counts, units = (self._constants[name] for name in self._makers[bias].input[:2])
            added = (counts * units.astype(float)).astype(np.float32)
        return Weights(values, scales, added)
