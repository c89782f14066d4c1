"""What is learnt at which rate, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from edge_fgr_train.network import Network
from edge_fgr_train.settings_steps import Optimise

__all__ = ["fixer_of", "last_norm", "optimiser_of", "set_rates"]

_FIX = 0.1
"""Share of the head's rate at which it is fitted to the test resolution."""

_MOMENTUM = 0.9


def optimiser_of(network: Network, lesson: nn.Module, rules: Optimise) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe.

    New layers (pooling, head, those of the lesson) learn at ``head_factor`` times the rate. Weights
    decay; biases and norms do not.
    """
    parts: list[tuple[Iterable[nn.Parameter], float]] = [
        (parameters, rules.layer_decay ** (depth + 1) if rules.layer_decay < 1 else 1.0)
        for depth, parameters in enumerate(reversed(_layers(network.backbone)))
    ]
    new = [network.head, lesson, *([network.pool] if network.pool is not None else [])]
    parts.append(([p for part in new for p in part.parameters()], rules.head_factor))
    return _optimiser(parts, rules)


def fixer_of(network: Network, rules: Optimise) -> torch.optim.Optimizer:
    """Return the optimiser that fits the head and the last norm to the test resolution."""
    learning = [*network.head.parameters()]
    if (norm := last_norm(network)) is not None:
        learning += norm.parameters()
    return _optimiser([(learning, rules.head_factor * _FIX)], rules)


def last_norm(network: Network) -> nn.Module | None:
    """Return the BatchNorm nearest to the head; None where there is none."""
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    norms = [part for part in network.backbone.modules() if isinstance(part, kinds)]
    return norms[-1] if norms else None


def set_rates(optimiser: torch.optim.Optimizer, rules: Optimise, now: float) -> None:
    """Set the rates at ``now`` (in epochs): linear warm-up, then what the recipe says.

    After ``epochs`` come those of ``fix_epochs``, a cosine of their own.
    """
    if now >= rules.epochs:
        share = 0.5 * (1 + math.cos(math.pi * (now - rules.epochs) / rules.fix_epochs))
    elif now < rules.warmup_epochs:
        share = (now + 0.01) / rules.warmup_epochs
    elif rules.schedule == "constant":
        share = 1.0
    else:
        rest = (now - rules.warmup_epochs) / max(rules.epochs - rules.warmup_epochs, 1e-9)
        share = 0.5 * (1 + math.cos(math.pi * rest))
    for group in optimiser.param_groups:
        group["lr"] = rules.lr * group["factor"] * share


def _layers(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters stage by stage, the stage of the pixels first.

    A stage is a part of the backbone by its name, or a numbered part of it (``blocks.3``), with the
    norm that follows.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    last = ""
    for name, parameter in backbone.named_parameters():
        first, *more = name.split(".")
        stage = f"{first}.{more[0]}" if more and more[0].isdigit() else first
        if stage in layers or not last or parameter.ndim > 1:
            last = stage
        layers.setdefault(last, []).append(parameter)
    return list(layers.values())


def _optimiser(
    parts: list[tuple[Iterable[nn.Parameter], float]], rules: Optimise
) -> torch.optim.Optimizer:
    groups: list[dict[str, object]] = []
    for parameters, factor in parts:
        known = [p for p in parameters if p.requires_grad]
        for decay in (True, False):
            if chosen := [p for p in known if (p.ndim > 1) is decay]:
                rate = rules.weight_decay if decay else 0.0
                groups.append({"params": chosen, "factor": factor, "weight_decay": rate})
    if rules.method == "sgd":
        return torch.optim.SGD(groups, lr=rules.lr, momentum=_MOMENTUM, nesterov=True)
    kind = torch.optim.Adam if rules.method == "adam" else torch.optim.AdamW
    return kind(groups, lr=rules.lr)
