"""The loss by the labels: cross-entropy, and what makes up for rare or easy classes.

Everything takes classes or the shares of mixed pictures. It is a mean over images, so that pieces
of a batch add up to the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edge_fgr_train.heads import with_margin
from edge_fgr_train.sampling import class_shares
from edge_fgr_train.settings import Model
from edge_fgr_train.settings_balance import Balance

__all__ = ["LabelLoss", "class_weights", "focal_loss", "offsets"]

_LEAST = 1e-8
"""The slope of (1 - p)^gamma is infinite at p = 1 where gamma is below 1."""


def class_weights(counts: Sequence[int], beta: float) -> Tensor:
    """Return weights by the effective number of images, float32 ``(C,)`` with sum C.

    Cui et al. 2019, equation 2 and section 4: (1 - beta) / (1 - beta^n), normalised.
    """
    images = torch.tensor(counts, dtype=torch.float64)
    # expm1 and log: beta^n is so near 1 for few images that a difference would lose its digits.
    effective = -torch.expm1(images * torch.tensor(beta, dtype=torch.float64).log())
    weights = 1 / effective
    return (weights * len(counts) / weights.sum()).float()


def offsets(counts: Sequence[int], balance: Balance) -> Tensor:
    """Return tau times the log of the share at which each class is drawn, float32 ``(C,)``."""
    return (balance.tau * class_shares(counts, balance.sampler).log()).float()


def focal_loss(logits: Tensor, shares: Tensor, gamma: float) -> Tensor:
    """Return the focal loss of each image ``(N,)``: shares times -(1 - p)^gamma log p.

    Args:
        logits: ``(N, C)``.
        shares: of the classes ``(N, C)``, smoothed where labels are; each class that has one counts
            with it.
        gamma: 0 is cross-entropy.
    """
    logs = functional.log_softmax(logits, 1)
    apart = (-torch.expm1(logs)).clamp_min(_LEAST)
    return -(shares * apart**gamma * logs).sum(1)


class LabelLoss:
    """What a recipe makes of logits and labels.

    Args:
        balance: how rare classes are made up for.
        model: whose head may want a margin.
        smoothing: of the labels.
        counts: images of each class; not looked at by plain cross-entropy.
        device: where logits are.
    """

    def __init__(
        self,
        balance: Balance,
        model: Model,
        smoothing: float,
        counts: Sequence[int],
        device: torch.device,
    ) -> None:
        self._balance, self._model, self._smoothing = balance, model, smoothing
        self._weights = self._offsets = None
        if balance.loss == "class-balanced":
            self._weights = class_weights(counts, balance.beta).to(device)
        if balance.adjust == "loss":
            self._offsets = offsets(counts, balance).to(device)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits ``(N, C)``, float32, by classes ``(N,)`` or shares ``(N, C)``.

        A margin comes first, because it is one of angles.
        """
        if self._model.head == "arcface":
            logits = with_margin(logits, targets, self._model.scale, self._model.margin)
        if self._offsets is not None:
            logits = logits + self._offsets
        if self._balance.loss == "cross-entropy":
            return functional.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        classes = logits.shape[1]
        shares = targets if targets.ndim == 2 else functional.one_hot(targets, classes).float()
        if self._weights is not None:
            each = functional.cross_entropy(
                logits, shares, label_smoothing=self._smoothing, reduction="none"
            )
            return ((shares @ self._weights) * each).mean()
        smooth = shares * (1 - self._smoothing) + self._smoothing / classes
        return focal_loss(logits, smooth, self._balance.gamma).mean()
