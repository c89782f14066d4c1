"""Finished runs to learn from: what a larger network, or several, say of the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edge_fgr.contract import Label
from edge_fgr.errors import UsageError
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.settings import Teacher

__all__ = ["Teachers"]


class Teachers:
    """Networks of runs, asked together.

    Args:
        rules: of the recipe.
        labels: the classes of what is taught.
        device: where to compute.

    Raises:
        InputMissingError: a run is not there, or has no finished epoch.
        ModelError: it is damaged.
        UsageError: it has other classes.
    """

    def __init__(self, rules: Teacher, labels: Sequence[Label], device: torch.device) -> None:
        self._rules, self._networks = rules, []
        for run in rules.runs:
            network, contract, _ = load_network(Path(run))
            if contract.labels != tuple(labels):
                raise UsageError(f"{run}: has other classes than the data; it cannot teach them")
            self._networks.append(network.to(device).requires_grad_(False))

    def __bool__(self) -> bool:
        return bool(self._networks)

    @torch.no_grad()
    def shares(self, pixels: Tensor) -> Tensor:
        """Return probabilities ``(N, C)`` at the recipe's temperature, the mean of all."""
        shares = [
            functional.softmax(network(pixels).logits.float() / self._rules.temperature, 1)
            for network in self._networks
        ]
        return torch.stack(shares).mean(0)

    def loss(self, logits: Tensor, shares: Tensor, by_labels: Tensor) -> Tensor:
        """Return the loss of ``logits`` by the teachers' ``shares`` and by the labels together.

        The square of the temperature keeps gradients as large as without it (Hinton et al. 2015).
        """
        rules = self._rules
        found = functional.log_softmax(logits / rules.temperature, 1)
        apart = functional.kl_div(found, shares, reduction="batchmean") * rules.temperature**2
        return rules.weight * apart + (1 - rules.weight) * by_labels
