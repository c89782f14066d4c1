"""Silent channels carry the finer codes of those that matter most.

Trained networks have channels that can never be above 0: weight decay took their weights. In front
of a depthwise convolution such a channel is room for a copy of another one. Copies of channel c
that are shifted by parts of a rounding step round differently, and their mean is finer than 8 bits:
n of them have an n-th of the step. The next layer reads each with an n-th of the weight. Nothing is
added to the graph, and in fp32 it computes the same.

The idea is that of outlier channel splitting (Zhao et al. 2019, "Improving Neural Network
Quantization without Retraining using Outlier Channel Splitting", section 3.3), where a channel is
split to halve its range; here it is copied to divide its rounding step, into channels that are
there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr_export.entry import entry_of
from edge_fgr_export.groups import Scale, absorbed, body_of
from edge_fgr_export.nodes import attribute, constants, producers, reads, with_constants
from edge_fgr_export.ranges import Statistics

__all__ = ["Copies", "copies_of", "known_with", "with_copies"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Copies:
    """How the channels between a convolution, a depthwise one and a dense one are copied.

    Attributes:
        first, depthwise, last: the convolutions.
        between, behind: the tensors in front of and behind the depthwise one, as they are rounded.
        source: ``(C,)``, which channel each one carries.
    """

    first: onnx.NodeProto
    depthwise: onnx.NodeProto
    last: onnx.NodeProto
    between: str
    behind: str
    source: npt.NDArray[np.intp]

    @property
    def count(self) -> int:
        """How many channels carry another one."""
        return int((self.source != np.arange(len(self.source))).sum())


def copies_of(model: onnx.ModelProto) -> list[Copies]:
    """Find silent channels, and what they should carry."""
    return [found for found in _found(model) if found.count]


def with_copies(
    model: onnx.ModelProto,
    copies: list[Copies],
    scales: Mapping[str, Scale],
    group: Mapping[str, str],
) -> onnx.ModelProto:
    """Return a copy of the graph whose silent channels carry others.

    Args:
        model: the fp32 graph.
        copies: of ``copies_of``.
        scales: of each group of tensors.
        group: of each tensor that is rounded.
    """
    values = constants(model)
    changed: dict[str, Doubles] = {}
    for found in copies:
        source = found.source
        times = np.bincount(source, minlength=len(source))[source]
        turn = np.array([int((source[:c] == source[c]).sum()) for c in range(len(source))])
        step = float(scales[group[found.between]][0])
        shift = np.where(times > 1, ((turn + 0.5) / times - 0.5) * step, 0.0)
        weights, bias = _of(found.first, values)
        changed |= _named(found.first, weights[source], bias[source] + shift)
        weights, bias = _of(found.depthwise, values)
        inside = weights[source].sum(axis=(1, 2, 3))
        changed |= _named(found.depthwise, weights[source], bias[source] - shift * inside)
        weights, bias = _of(found.last, values)
        changed |= _named(found.last, weights[:, source] / times[:, None, None], bias)
    return with_constants(model, changed)


def known_with(copies: list[Copies], seen: Statistics) -> Statistics:
    """Return means and covariances as they are with copies; shifts are left out."""
    means, covariances = dict(seen.means), dict(seen.covariances)
    for found in copies:
        source = found.source
        for name in (found.between, found.behind):
            if name in means:
                means[name] = means[name][source]
        for kernel in covariances:
            if kernel.tensor == found.between:
                covariances[kernel] = covariances[kernel][source]
            elif kernel.tensor == found.behind:
                width = len(source)
                each = np.concatenate(
                    [source + width * place for place in range(int(np.prod(kernel.size)))]
                )
                covariances[kernel] = covariances[kernel][:, each][:, :, each]
    return replace(seen, means=means, covariances=covariances)


def _found(model: onnx.ModelProto) -> Iterator[Copies]:
    made, vanish, times = producers(model.graph), absorbed(model), reads(model.graph)
    values, body = constants(model), body_of(model)
    behind_cut = {cut.output[0]: name for name, cut in vanish.items()}
    for node in body:
        channels = attribute(node, "group", 1)
        if node.op_type != "Conv" or channels == 1 or len(values[node.input[1]]) != channels:
            continue
        between, cut = node.input[0], vanish.get(node.output[0])
        first = made.get(behind_cut.get(between, ""))
        if first is None or cut is None or first.op_type != "Conv":
            continue
        behind = cut.output[0]
        last = next((n for n in body if n.input[0] == behind), None)
        plain = last is not None and last.op_type == "Conv" and attribute(last, "group", 1) == 1
        grouped = attribute(first, "group", 1) > 1
        if not plain or last is None or grouped or times[between] != 1 or times[behind] != 1:
            continue
        silent = _silent(model, first, values) & (_of(node, values)[1] <= 0)
        source = _allotted(silent, _gains(node, last, values))
        yield Copies(first, node, last, between, behind, source)


def _silent(
    model: onnx.ModelProto, conv: onnx.NodeProto, values: Mapping[str, np.ndarray]
) -> npt.NDArray[np.bool_]:
    """Return which outputs of a convolution cannot be above 0, whatever it reads."""
    entry, made = entry_of(model), producers(model.graph)
    weights, bias = _of(conv, values)
    largest = np.inf
    if conv.input[0] == entry.output:
        ends = np.stack([-entry.mean / entry.divisor, (255 - entry.mean) / entry.divisor])
        largest = float(np.abs(ends).max())
    elif (maker := made.get(conv.input[0])) is not None and maker.op_type == "Clip":
        largest = max(abs(float(values[name])) for name in maker.input[1:] if name in values)
    sizes = np.abs(weights).reshape(len(weights), -1).sum(axis=1)
    reach = np.where(sizes > 0, sizes * largest, 0)
    result: npt.NDArray[np.bool_] = reach + bias <= 0
    return result


def _gains(
    depthwise: onnx.NodeProto, last: onnx.NodeProto, values: Mapping[str, np.ndarray]
) -> Doubles:
    """Return how strongly rounding of each channel is heard behind the dense convolution."""
    one, two = _of(depthwise, values)[0], _of(last, values)[0]
    heard: Doubles = (one**2).sum(axis=(1, 2, 3)) * (two**2).sum(axis=(0, 2, 3))
    return heard


def _allotted(silent: npt.NDArray[np.bool_], gains: Doubles) -> npt.NDArray[np.intp]:
    """Give each silent channel to where one more copy lowers the expected error most."""
    source, times = np.arange(len(silent)), np.ones(len(silent))
    gains = np.where(silent, 0, gains)
    for place in np.flatnonzero(silent):
        best = int((gains * (1 / times**2 - 1 / (times + 1) ** 2)).argmax())
        if gains[best] > 0:
            source[place] = best
            times[best] += 1
    return source


def _of(conv: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> tuple[Doubles, Doubles]:
    weights = values[conv.input[1]].astype(float)
    bias = values[conv.input[2]].astype(float) if len(conv.input) > 2 else np.zeros(len(weights))
    return weights, bias


def _named(conv: onnx.NodeProto, weights: Doubles, bias: Doubles) -> dict[str, Doubles]:
    return {conv.input[1]: weights} | ({conv.input[2]: bias} if len(conv.input) > 2 else {})
