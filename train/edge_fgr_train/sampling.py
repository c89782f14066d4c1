"""Which images are drawn how often: each once, or classes more evenly than they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["Sampler", "class_shares", "draw_order"]

Sampler: TypeAlias = Literal["natural", "sqrt", "balanced"]

_POWER = {"natural": 1.0, "sqrt": 0.5, "balanced": 0.0}
"""Kang et al. 2020, section 3, equation 1."""


def class_shares(counts: Sequence[int], sampler: Sampler = "natural") -> Tensor:
    """Return how often each class is drawn, float64 ``(C,)`` with sum 1.

    Args:
        counts: images of each class, at least one.
        sampler: how they are drawn.
    """
    raised = torch.tensor(counts, dtype=torch.float64) ** _POWER[sampler]
    return raised / raised.sum()


def draw_order(
    targets: Sequence[int], sampler: Sampler, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Draw the images of an epoch, in order: as many as there are.

    Args:
        targets: class of each image ``(N,)``.
        sampler: ``natural`` draws each once; the others draw with replacement, a class by its
            share and then one of its images.
        generator: where the draws come from.

    Returns:
        For each draw the place of the image, and how often it was drawn before.
    """
    if sampler == "natural":
        return [(row, 0) for row in torch.randperm(len(targets), generator=generator).tolist()]
    truth = np.asarray(targets)
    counts = np.bincount(truth).clip(1)
    weights = (class_shares(counts.tolist(), sampler) / torch.from_numpy(counts))[truth]
    rows = torch.multinomial(weights, len(truth), replacement=True, generator=generator).tolist()
    seen: Counter[int] = Counter()
    order = []
    for row in rows:
        order.append((row, seen[row]))
        seen[row] += 1
    return order
