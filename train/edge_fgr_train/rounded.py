"""A network computed as its INT8 graph will be: rounded where that rounds, in float.

``torch.export`` gives the operators of any network, as it does to the exporter. They are run one
by one with what is rounded put in: folded weights of each convolution and of the head, and each
result that integer kernels read or write. BatchNorms keep their statistics and fold into their
convolution, a ReLU vanishes into the rounding of what it cuts, and what meets in an addition or a
max pooling shares one scale. ``edge_fgr_export.groups`` says why.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind

from edge_fgr.errors import ModelError
from edge_fgr_train.fake_quant import Code, Seen, codes_of, round_activations, round_weights
from edge_fgr_train.network import Network, Outputs

__all__ = ["RoundedNetwork"]

State = Mapping[str, Tensor]

_CUTS = {"relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_"}
_TIED = {"add", "add_", "max_pool2d"}
_POOLED = {"mean", "adaptive_avg_pool2d"}
_SAME = {
    "alias", "clamp_min", "clone", "contiguous", "div", "dropout", "flatten", "linalg_vector_norm",
    "pad", "permute", "reshape", "slice", "squeeze", "sub", "to", "unsqueeze", "view",
}  # fmt: skip
"""Operators at the entry, in the head, and those that give the same numbers in another shape."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A convolution or a linear layer.

    Attributes:
        weight, bias: names in the network; the bias may be missing.
        pair_safe: whether its weights keep the pair limit.
        after: the BatchNorm that folds into it.
        norm: names of its scale, shift, mean and variance in the network; scale and shift may be
            missing. Without a BatchNorm: empty.
        epsilon: what it adds to the variance.
    """

    weight: str
    bias: str | None
    pair_safe: bool
    after: fx.Node | None = None
    norm: tuple[str | None, ...] = ()
    epsilon: float = 0.0

    def fold(self, state: State) -> tuple[Tensor, Tensor | None]:
        """Return what weights are multiplied with, ``(M,)`` or ``(1,)``, and the bias ``(M,)``."""
        bias = state[self.bias] if self.bias else None
        if not self.norm:
            return state[self.weight].new_ones(1), bias
        scale, shift, mean, variance = (state[name] if name else None for name in self.norm)
        if mean is None or variance is None:
            raise ModelError("INT8 has no form of a BatchNorm without statistics")
        factor = (variance + self.epsilon).rsqrt()
        factor = factor if scale is None else factor * scale
        bias = (-mean if bias is None else bias - mean) * factor
        return factor, bias if shift is None else bias + shift


class RoundedNetwork:
    """The operators of a network, and where they round.

    Holds no weights: each call takes those of the network that it is given.

    Args:
        network: what is looked at.
        size: side of its input in pixels.

    Attributes:
        codes: how each tensor that is rounded is, by its name in the exported program.

    Raises:
        ModelError: it has an operator without an integer form.
    """

    def __init__(self, network: Network, size: int) -> None:
        device = next(network.parameters()).device
        mode = network.training
        example = torch.zeros((2, size, size, 3), dtype=torch.uint8, device=device)
        program = torch.export.export(
            network.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("N")},)
        )
        network.train(mode)
        self._specs, self._constants = program.graph_signature.input_specs, program.constants
        self._module = program.graph_module
        self._names = {spec.arg.name: str(spec.target) for spec in self._specs}
        self._kernels: dict[fx.Node, _Kernel] = {}
        self._norms: set[fx.Node] = set()
        self._ties: dict[str, str] = {}
        self._whole: set[str] = set()
        self.codes: dict[str, Code] = {}
        for node in list(self._module.graph.nodes):
            if node.op == "call_function":
                self._place(node, network)
        self._ties = {name: self._root(name) for name in self._ties}

    def observe(self, network: Network, batches: Iterable[Tensor]) -> None:
        """Choose the scales on batches of pixels, uint8 ``(N, H, W, 3)``, as the exporter will."""
        seen = {name: Seen() for name in self._ties}
        with torch.no_grad():
            for pixels in batches:
                self._run(network, pixels, seen)
        self.codes = codes_of(seen, self._ties, self._whole)

    def __call__(self, network: Network, pixels: Tensor) -> Outputs:
        """Compute ``network`` on pixels ``(N, H, W, 3)``, rounded."""
        return self._run(network, pixels, None)

    def settled(self, network: Network) -> Network:
        """Return a copy whose weights are rounded for good; the exporter finds nothing to round."""
        result = copy.deepcopy(network)
        state = dict(result.named_parameters()) | dict(result.named_buffers())
        with torch.no_grad():
            for kernel in self._kernels.values():
                weight = state[kernel.weight]
                factor, _ = kernel.fold(state)
                factor = factor.reshape(-1, *[1] * (weight.ndim - 1))
                rounded = round_weights(weight * factor, pair_safe=kernel.pair_safe) / factor
                # A factor of 0 switches a channel off: its weights do not count.
                weight.copy_(torch.where(rounded.isfinite(), rounded, weight))
        return result

    def _place(self, node: fx.Node, network: Network) -> None:
        """Find out what ``node`` is to the INT8 graph."""
        kind = _kind(node)
        if kind == "_assert_tensor_metadata":
            self._module.graph.erase_node(node)  # pixels may come mixed, as float
        elif kind in ("conv2d", "linear"):
            self._kernel(node, kind, network)
        elif kind in _TIED:
            sources = [self._source(value) for value in node.args if isinstance(value, fx.Node)]
            self._point(_with_cut(node), *filter(None, sources))
        elif kind in _POOLED:
            self._point(node)
        elif kind in _CUTS:
            if node.name not in self._ties:
                self._point(node)
        elif kind == "batch_norm":
            if node not in self._norms:
                raise ModelError("INT8 has no form of a BatchNorm that follows no convolution")
        elif kind not in _SAME:
            raise ModelError(
                f"INT8 has no form of {kind} here: deploy the fp32 file, or train an "
                "EfficientNet-Lite"
            )
        if kind == "sub" and isinstance(node.args[1], fx.Node):  # a mean for each channel
            (divided,) = node.users
            self._point(divided)
            self._whole.add(divided.name)

    def _kernel(self, node: fx.Node, kind: str, network: Network) -> None:
        weight, bias = (self._name(node, place) for place in (1, 2))
        if weight is None:
            raise ModelError("INT8 has no form of weights that are computed")
        shape = network.get_parameter(weight).shape
        parts: Any = node.args[6] if len(node.args) > 6 else 1
        safe = kind == "linear" or parts == 1 or shape[1] > 1 or shape[0] > parts
        kernel = _Kernel(weight, bias, safe)
        if (norm := _only_reader(node)) is not None and _kind(norm) == "batch_norm":
            names = tuple(self._name(norm, place) for place in (1, 2, 3, 4))
            epsilon: Any = norm.args[7]
            kernel = replace(kernel, after=norm, norm=names, epsilon=epsilon)
            self._norms.add(norm)
        self._kernels[node] = kernel
        if kind == "conv2d":
            self._point(_with_cut(kernel.after or node))

    def _name(self, node: fx.Node, place: int) -> str | None:
        """Return the name in the network of an argument."""
        value = node.args[place] if len(node.args) > place else None
        return self._names.get(value.name) if isinstance(value, fx.Node) else None

    def _point(self, node: fx.Node, *tied: str) -> None:
        """Round the result of ``node``, on the scale of those that it is tied to."""
        self._ties[node.name] = node.name
        for name in tied:
            self._ties[self._root(name)] = self._root(node.name)

    def _root(self, name: str) -> str:
        while self._ties[name] != name:
            name = self._ties[name]
        return name

    def _source(self, node: fx.Node) -> str | None:
        """Return what was rounded last on the way to ``node``."""
        while node.name not in self._ties:
            if node.op == "placeholder" or not isinstance(node.args[0], fx.Node):
                return None
            node = node.args[0]
        return node.name

    def _run(self, network: Network, pixels: Tensor, seen: Mapping[str, Seen] | None) -> Outputs:
        state = dict(network.named_parameters()) | dict(network.named_buffers())
        inputs = []
        for spec in self._specs:
            if spec.kind == InputKind.USER_INPUT:
                inputs.append(pixels)
            else:
                known = self._constants if spec.kind == InputKind.CONSTANT_TENSOR else state
                inputs.append(known[str(spec.target)])
        steps = _Steps(self._module, self._kernels, state, self.codes, seen)
        logits, embedding, features = steps.run(*inputs)
        return Outputs(logits, embedding, features)


class _Steps(fx.Interpreter):
    """Runs the operators once, rounding; or, with ``seen``, watches them without."""

    def __init__(
        self,
        module: fx.GraphModule,
        kernels: Mapping[fx.Node, _Kernel],
        state: State,
        codes: Mapping[str, Code],
        seen: Mapping[str, Seen] | None,
    ) -> None:
        super().__init__(module)
        self._kernels, self._state, self._codes, self._seen = kernels, state, codes, seen
        self._folded = {kernel.after for kernel in kernels.values()}

    def run_node(self, n: fx.Node) -> Any:
        """Compute ``n``."""
        if n in self._folded:
            value = self.env[n.all_input_nodes[0]]
        elif kernel := self._kernels.get(n):
            value = self._product(n, kernel)
        else:
            value = super().run_node(n)
        if self._seen is None:
            code = self._codes.get(n.name)
            return value if code is None else round_activations(value, code)
        if n.name in self._seen:
            self._seen[n.name].add(value)
        return value

    def _product(self, node: fx.Node, kernel: _Kernel) -> Any:
        args, _ = self.fetch_args_kwargs_from_env(node)
        factor, bias = kernel.fold(self._state)
        weight = self._state[kernel.weight]
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        if self._seen is None:
            weight = round_weights(weight, pair_safe=kernel.pair_safe)
        compute: Any = node.target
        return compute(args[0], weight, bias, *args[3:])


def _kind(node: fx.Node) -> str:
    """Return an operator's name without its overload: ``conv2d``."""
    return str(node.target).split(".")[1] if node.op == "call_function" else ""


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _with_cut(node: fx.Node) -> fx.Node:
    """Return the ReLU that vanishes into the rounding of ``node``, else ``node``."""
    cut = _only_reader(node)
    if cut is None or _kind(cut) not in _CUTS:
        return node
    hard = _kind(cut).startswith("hardtanh")
    return cut if not hard or cut.args[1:2] == (0,) or cut.args[1:2] == (0.0,) else node
