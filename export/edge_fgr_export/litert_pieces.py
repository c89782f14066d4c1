"""Pieces of a torch program that litert-torch turns to integers: codes, weights, layers.

A float tensor that was rounded and read again by torch's ``quantized_decomposed`` operators is what
the converter knows as a quantised one. int8 codes are the uint8 codes of the ONNX graph less 128.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from torch import nn
from torch.nn import functional

from edge_fgr.errors import ModelError

__all__ = ["Codes", "Convolution", "MaxPool", "Weights", "Window"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int8]

_RANGES = {
    torch.int8: (-128, 127),
    torch.int16: (-32768, 32767),
}


@dataclass(frozen=True, slots=True)
class Codes:
    """How a tensor is rounded: value = (code - zero) * scale.

    Attributes:
        kind: int8 or int16.
    """

    scale: float
    zero: int
    kind: torch.dtype = torch.int8

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Return the codes of float values."""
        ends = _RANGES[self.kind]
        result: torch.Tensor = torch.ops.quantized_decomposed.quantize_per_tensor(
            values, self.scale, self.zero, *ends, self.kind
        )
        return result

    def read(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the float values of codes."""
        ends = _RANGES[self.kind]
        result: torch.Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor(
            codes, self.scale, self.zero, *ends, self.kind
        )
        return result

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """Return what is left of float values."""
        return self.read(self.of(values))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value."""
        low, high = ((end - self.zero) * self.scale for end in _RANGES[self.kind])
        return low, high


class Weights(nn.Module):
    """int8 weights ``(M, …)`` with a scale per row, and a float bias ``(M,)``.

    The converter rounds the bias to int32 in units of the products: to the integers it came from.
    """

    def __init__(self, values: Integers, scales: Floats, bias: Floats) -> None:
        super().__init__()
        self._parts = values, scales, bias
        shape = (-1, *[1] * (values.ndim - 1))
        self._float = nn.Buffer(torch.from_numpy(values * scales.reshape(shape)))
        self._scales = nn.Buffer(torch.from_numpy(scales.astype(np.float64)))
        self._zeros = nn.Buffer(torch.zeros(len(scales), dtype=torch.int64))
        self.bias = nn.Buffer(torch.from_numpy(bias))

    def split(self, count: int) -> list[Weights]:
        """Return ``count`` equal parts of the rows."""
        return [
            Weights(*rows) for rows in zip(*(np.split(a, count) for a in self._parts), strict=True)
        ]

    def forward(self) -> torch.Tensor:
        """Return the weights, as codes that are read."""
        how = (self._scales, self._zeros, 0, -127, 127, torch.int8)
        codes = torch.ops.quantized_decomposed.quantize_per_channel(self._float, *how)
        result: torch.Tensor = torch.ops.quantized_decomposed.dequantize_per_channel(codes, *how)
        return result


@dataclass(frozen=True, slots=True)
class Window:
    """What a convolution or a pooling sees at once; pairs are (height, width).

    Attributes:
        pads: left, right, top and bottom.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    @classmethod
    def of(cls, node: onnx.NodeProto) -> Window:
        """Read a node of ONNX.

        Raises:
            ModelError: its output has a size that is not written down plainly.
        """
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if found.get("auto_pad", b"NOTSET") != b"NOTSET" or found.get("ceil_mode", 0):
            raise ModelError(f"LiteRT has no form of {node.op_type} here: its padding is not plain")
        top, left, bottom, right = found.get("pads", (0, 0, 0, 0))
        return cls(
            tuple(found["kernel_shape"]),
            tuple(found.get("strides", (1, 1))),
            tuple(found.get("dilations", (1, 1))),
            (left, right, top, bottom),
            found.get("group", 1),
        )

    def padded(self, values: torch.Tensor, value: float, codes: Codes) -> torch.Tensor:
        """Return ``(1, H, W, C)`` with ``value`` around it."""
        if not any(self.pads):
            return values
        return codes.rounded(functional.pad(values, (0, 0, *self.pads), value=value))


class Convolution(nn.Module):
    """Values ``(1, H, W, C)`` to ``(1, h, w, M)``."""

    def __init__(self, window: Window, weights: Weights, codes: Codes) -> None:
        """Take weights ``(M, C / groups, kh, kw)`` and the codes of what they are applied to."""
        super().__init__()
        self._window, self._weights, self._codes = window, weights, codes

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return what is not rounded yet."""
        window = self._window
        planes = window.padded(values, 0.0, self._codes).permute(0, 3, 1, 2)
        bias, strides, dilations = self._weights.bias, window.strides, window.dilations
        return functional.conv2d(
            planes, self._weights(), bias, strides, 0, dilations, window.groups
        ).permute(0, 2, 3, 1)


class MaxPool(nn.Module):
    """Values ``(1, H, W, C)`` to ``(1, h, w, C)``."""

    def __init__(self, window: Window, codes: Codes) -> None:
        super().__init__()
        self._window, self._codes = window, codes

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the largest of each window; padding is never larger."""
        window = self._window
        planes = window.padded(values, self._codes.ends[0], self._codes).permute(0, 3, 1, 2)
        return functional.max_pool2d(
            planes, window.size, window.strides, 0, window.dilations
        ).permute(0, 2, 3, 1)
