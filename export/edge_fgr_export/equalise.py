"""Cross-layer equalisation: channels that reach equally far use equally many codes.

A channel may be multiplied where it is made and divided where it is read: the fp32 network stays
the same, and 8 bits for a whole tensor become finer for its quiet channels (Nagel et al. 2019,
"Data-Free Quantization", section 4.1). Here that is done along residual chains, where one scale
has to do for many tensors; weights have a scale per output channel, so making costs nothing.

Between a Clip and its reader it is left alone: a clip at 6 in some channels and at 9 in others
cannot vanish into the rounding of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.groups import body_of, find, join
from edge_fgr_export.nodes import attribute, constants, with_constants
from edge_fgr_export.ranges import Statistics

__all__ = ["chains_of", "equalise", "factors_of", "moved"]

Doubles = npt.NDArray[np.float64]

_MOST = 64.0
"""A channel is multiplied by no more: one that hardly ever speaks has nothing fine to say."""


def chains_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the tensors whose channels may be scaled, each with the chain that shares factors.

    A chain is what convolutions write, Adds join, and convolutions of one group read.
    """
    nodes, outputs = body_of(model), {output.name for output in model.graph.output}
    root: dict[str, str] = {}
    for node in nodes:
        for name in (*node.input[: 2 if node.op_type == "Add" else 1], node.output[0]):
            root.setdefault(name, name)
    barred = {nodes[0].input[0], *outputs} if nodes else set()
    if pooling := float_pooling(model.graph):
        barred.update(name for node in pooling.nodes for name in node.input)
    for node in nodes:
        if node.op_type == "Add":
            join(root, [*node.input, node.output[0]])
        elif node.op_type != "Conv":
            barred.update((node.input[0], node.output[0]))
        elif attribute(node, "group", 1) > 1:
            barred.add(node.input[0])
    made = {node.output[0] for node in nodes}
    fixed = {find(root, name) for name in root if name in barred or name not in made}
    return {name: find(root, name) for name in root if find(root, name) not in fixed}


def factors_of(model: onnx.ModelProto, reaches: Mapping[str, Doubles]) -> dict[str, Doubles]:
    """Return what the channels of each chain are multiplied by, ``(C,)``, at least 1.

    Args:
        model: the fp32 graph.
        reaches: of each tensor of ``chains_of``, how far its channels go, ``(C,)``.
    """
    furthest: dict[str, Doubles] = {}
    for name, chain in chains_of(model).items():
        furthest[chain] = np.maximum(furthest.get(chain, 0.0), reaches[name])
    return {
        chain: np.clip(reach.max() / np.maximum(reach, 1e-9), 1, _MOST)
        for chain, reach in furthest.items()
    }


def equalise(model: onnx.ModelProto, factors: Mapping[str, Doubles]) -> onnx.ModelProto:
    """Return a copy with the channels of its chains multiplied; it computes the same."""
    chains, values, changed = chains_of(model), constants(model), {}
    for node in body_of(model):
        if node.op_type != "Conv":
            continue
        name = node.input[1]
        weights = values[name].astype(float)
        if (made := factors.get(chains.get(node.output[0], ""))) is not None:
            weights = weights * made[:, None, None, None]
            if len(node.input) > 2:
                changed[node.input[2]] = values[node.input[2]] * made
        if (read := factors.get(chains.get(node.input[0], ""))) is not None:
            weights = weights / read[None, :, None, None]
        changed[name] = weights
    return with_constants(model, changed)


def moved(
    seen: Statistics, chains: Mapping[str, str], factors: Mapping[str, Doubles]
) -> Statistics:
    """Return means and covariances of the equalised graph; ranges stay those of the other."""
    means = {
        name: mean * factors[chains[name]] if name in chains else mean
        for name, mean in seen.means.items()
    }
    covariances = {}
    for kernel, found in seen.covariances.items():
        if kernel.tensor in chains:
            # (kh, kw, channel): channels come round again for each position.
            each = np.tile(factors[chains[kernel.tensor]], int(np.prod(kernel.size)))
            covariances[kernel] = found * each[:, None] * each
        else:
            covariances[kernel] = found
    return replace(seen, means=means, covariances=covariances)
