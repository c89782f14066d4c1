"""How pixels enter: uint8 ``(N, H, W, 3)``, turned to channels first and normalised.

(pixel - mean) / divisor with one whole number as the mean *is* a quantisation: a zero point and a
scale. DequantizeLinear computes it, in fp32 and in INT8. Any other mean stays Cast, Sub and Div,
which IEEE arithmetic rounds the same way everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_export.nodes import constants, copied, replace
from edge_fgr_export.qdq import Builder

__all__ = ["Entry", "entry_of", "fold_entry", "write_int8_entry"]

Numbers = npt.NDArray[np.float64]

_STEPS = ("Transpose", "Cast", "Sub", "Div")


@dataclass(frozen=True, slots=True)
class Entry:
    """The first nodes of an fp32 graph.

    Attributes:
        nodes: Transpose, then DequantizeLinear, or Cast and as much as is needed of Sub and Div.
        mean, divisor: in units of a pixel value, one number or one for each channel.
    """

    nodes: tuple[onnx.NodeProto, ...]
    mean: Numbers
    divisor: Numbers

    @property
    def output(self) -> str:
        """Name of the normalised tensor ``(N, 3, H, W)``."""
        return str(self.nodes[-1].output[0])

    @property
    def folded(self) -> bool:
        """Whether the normalisation is a DequantizeLinear."""
        return bool(self.nodes[-1].op_type == "DequantizeLinear")


def entry_of(model: onnx.ModelProto) -> Entry:
    """Find the entry of an fp32 graph.

    Raises:
        ModelError: the graph does not begin with a normalisation of pixels.
    """
    values = constants(model)
    chain: list[onnx.NodeProto] = []
    name, found = "pixels", {"Sub": np.zeros(1), "Div": np.ones(1)}
    for step in (*_STEPS, "DequantizeLinear"):
        # What else reads pixels asks for their number only.
        after = [n for n in model.graph.node if n.input[:1] == [name] and n.op_type == step]
        if len(after) != 1:
            continue
        chain, name = [*chain, after[0]], after[0].output[0]
        if step in found:
            found[step] = values[after[0].input[1]].reshape(-1).astype(float)
        elif step == "DequantizeLinear":
            scale, zero = (
                values[tensor].reshape(-1).astype(float) for tensor in after[0].input[1:]
            )
            found = {"Sub": zero, "Div": 1 / scale}
    if [node.op_type for node in chain[:2]] not in (
        ["Transpose", "Cast"],
        ["Transpose", "DequantizeLinear"],
    ):
        raise ModelError("the graph does not begin with the normalisation of pixels")
    return Entry(tuple(chain), found["Sub"], found["Div"])


def fold_entry(model: onnx.ModelProto) -> None:
    """Replace Cast, Sub and Div by DequantizeLinear where that gives the same numbers."""
    entry = entry_of(model)
    if len({*entry.mean}) > 1 or len({*entry.divisor}) > 1:
        return
    zero, divisor = float(entry.mean[0]), float(entry.divisor[0])
    scale = 1 / divisor
    if not (zero in range(256) and np.float32(scale) * np.float32(divisor) == 1):
        return
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["pixels_nchw"], "to_nchw", perm=[0, 3, 1, 2]),
        helper.make_node(
            "DequantizeLinear",
            ["pixels_nchw", "pixels_scale", "pixels_zero"],
            [entry.output],
            "normalise",
        ),
    ]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.asarray(scale, np.float32), "pixels_scale"),
            numpy_helper.from_array(np.asarray(zero, np.uint8), "pixels_zero"),
        ]
    )
    replace(model.graph, entry.nodes, nodes, at=0)


def write_int8_entry(
    out: Builder, model: onnx.ModelProto, entry: Entry, *, symmetric: bool = False
) -> float:
    """Add the codes of the normalised pixels, a group of their own, to an INT8 graph.

    Pixels are rounded already, and with one mean for all channels their codes stay as they are. A
    mean that is no whole number lies at most half a level from the zero point, in every pixel
    alike: the bias of the convolution takes that back, and all that is lost is the half level in
    what is padded. (Rounding (pixel - 127.5) / 127.5 anew would merge levels in pairs: with a code
    for 0, all 256 lie half-way between codes.)

    With a mean for each channel the normalised tensor is rounded like any other, but over its whole
    range. (Measured on a small ResNet at 64 px: that moves the logits by 0.3 % of their spread.
    Folding means and divisors into the weights moves them by 6 %: padding is no longer 0.)

    Symmetric codes, int8 around 0, always come from the normalised tensor.

    Returns:
        How much higher codes read than they should, in units of the normalised tensor.
    """
    name, mean, divisor = entry.output, entry.mean, entry.divisor
    readers = {node.op_type for node in model.graph.node if name in node.input}
    zero = np.rint(mean[0])
    same = len({*mean}) == len({*divisor}) == 1 and 0 <= zero <= 255
    if not symmetric and same and (zero == mean[0] or readers == {"Conv"}):
        first = entry.nodes[0]
        out.nodes.append(copied(first, [*first.input], f"{name}_q"))
        out.constant(f"{name}_scale", np.float32(1 / divisor[0]))
        out.constant(f"{name}_zero", np.uint8(zero))
        return float((mean[0] - zero) / divisor[0])
    values = constants(model)
    for node in entry.nodes:
        out.nodes.append(copied(node, [*node.input], node.output[0]))
        for constant in node.input[1:]:
            out.constant(constant, values[constant])
    ends = np.stack([-mean / divisor, (255 - mean) / divisor])
    low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
    scale = np.float32(max(-low, high) / 127 if symmetric else (high - low) / 255)
    out.constant(f"{name}_scale", scale)
    out.constant(f"{name}_zero", np.int8(0) if symmetric else np.uint8(np.rint(-low / scale)))
    # Not per channel with the divisor in the scale: onnxruntime takes 6 times as long for that.
    out.round(name, name, name)
    return 0.0
