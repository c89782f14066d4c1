"""Heads after the backbone is learnt: shifted, scaled, or learnt anew on its embeddings.

Kang et al. 2020, "Decoupling Representation and Classifier for Long-Tailed Recognition": what is
unfair to rare classes sits in the head; and Menon et al. 2021, "Long-tail learning via logit
adjustment".
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edge_fgr_train.augment import seed_of
from edge_fgr_train.heads import CosineHead, new_head, with_margin
from edge_fgr_train.linear import LinearHead
from edge_fgr_train.losses import offsets
from edge_fgr_train.network import Network, as_finished
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.sampling import draw_order
from edge_fgr_train.settings_balance import Balance

__all__ = ["rebalanced", "retrained_head"]

_LEAST_LENGTH = 1e-12

_RETRAINED = 2
"""Keeps the draws apart from those of the epochs."""


@torch.no_grad()
def rebalanced(network: Network, balance: Balance, counts: Sequence[int]) -> Network:
    """Return what is kept of a network: itself, or a copy whose head was shifted or scaled.

    It is always made from the trained head, so nothing is done twice when a run is resumed.
    """
    if balance.adjust != "bias" and balance.classifier != "tau-norm":
        return network
    kept = deepcopy(network)
    if balance.adjust == "bias":
        kept.head.bias.sub_(offsets(counts, balance).to(kept.head.bias.device))
    if balance.classifier == "tau-norm":
        # The bias is left out, as in the paper.
        length = torch.linalg.vector_norm(kept.head.weight, dim=1, keepdim=True)
        kept.head.weight /= length.clamp_min(_LEAST_LENGTH) ** balance.norm_tau
        kept.head.bias.zero_()
    return kept


def retrained_head(
    embedding: npt.NDArray[np.float32], targets: Sequence[int], classes: int, recipe: Recipe
) -> LinearHead:
    """Train a head of the recipe's kind from the start, every class drawn equally often.

    Args:
        embedding: ``(N, D)``, plain.
        targets: the class of each.
        classes: how many there are, each with an embedding at least.
        recipe: its kind of head, dropout, rate of the head, batch, label smoothing and seed.

    Returns:
        float32 ``(C, D)`` and ``(C,)``.
    """
    model, rules = recipe.model, recipe.optimise
    unit = as_finished(model).l2
    seen = torch.from_numpy(np.ascontiguousarray(LinearHead.seen(embedding, l2=unit)))
    truth = torch.tensor(targets)
    steps = max(1, len(truth) // rules.batch)
    # The state of all other draws stays what it was: a seed of its own, and back.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed_of(rules.seed, _RETRAINED))
        head = new_head(seen.shape[1], classes, model)
        optimiser = torch.optim.AdamW(
            [parameter for parameter in head.parameters() if parameter.requires_grad],
            lr=rules.lr * rules.head_factor,
            weight_decay=rules.weight_decay,
        )
        whole = recipe.balance.crt_epochs * steps
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, whole)
        for epoch in range(recipe.balance.crt_epochs):
            generator = torch.Generator().manual_seed(seed_of(rules.seed, _RETRAINED, epoch))
            order = [row for row, _ in draw_order(targets, "balanced", generator)]
            for step in range(steps):
                rows = order[step * rules.batch : (step + 1) * rules.batch]
                logits = head(functional.dropout(seen[rows], model.dropout))
                if model.head == "arcface":
                    logits = with_margin(logits, truth[rows], model.scale, model.margin)
                loss = functional.cross_entropy(
                    logits, truth[rows], label_smoothing=rules.label_smoothing
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    weight = head.directions() if isinstance(head, CosineHead) else head.weight
    return LinearHead(weight.detach().numpy(), head.bias.detach().numpy(), l2=unit)
