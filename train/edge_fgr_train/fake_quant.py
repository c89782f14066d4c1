"""Rounding to 8 bits as the exporter will round, in float and open to gradients.

A gradient passes what was rounded as if it had not been, and stops where a value was clipped (the
straight-through estimator, as in Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", section 3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edge_fgr_train.int8 import LEVELS, PAIR_LIMIT

__all__ = ["Code", "Seen", "codes_of", "round_activations", "round_weights"]

_SAMPLES = 8192
"""Values of a tensor and batch that a range is chosen on, evenly spaced; extremes see all."""

_SHARES = 71


@dataclass(frozen=True, slots=True)
class Code:
    """How 8 bits stand for a number: value = (code - zero) * scale."""

    scale: float
    zero: int


class Seen:
    """Extremes and a sample of the values of one tensor, taken batch by batch."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.sample: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """Take in one batch."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        # A copy: what is taken in may be changed in place afterwards.
        flat = values.reshape(-1)
        self.sample.append(flat[:: max(1, len(flat) // _SAMPLES)].clone())


def round_activations(values: Tensor, code: Code) -> Tensor:
    """Round to uint8 and back."""
    return torch.fake_quantize_per_tensor_affine(values, code.scale, code.zero, 0, 255)


def round_weights(weights: Tensor, *, pair_safe: bool) -> Tensor:
    """Round weights ``(M, …)`` to int8 and back, with a scale for each of the M rows.

    With ``pair_safe`` no two neighbours of one sign add up to more than the exporter allows, in
    the order in which it looks at them. It tries five scales for each row and keeps what costs
    least. So it goes here, among those that leave the largest weight alone: then the exporter
    finds all weights of the result on a grid of its own, and does not round them again.
    """
    packed = weights.movedim(1, -1)  # (M, …, C)
    rows = packed.reshape(len(weights), -1)
    count = rows.shape[1]
    largest = rows.detach().abs().amax(1).clamp_min(1e-12)
    scales = largest / LEVELS[0]
    if pair_safe:
        rows = functional.pad(rows, (0, count % 2))
        scales = largest / _levels(rows.detach(), largest)
        rows = _lowered(rows / scales[:, None]) * scales[:, None]
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(rows, scales, zeros, 0, -127, 127)
    return rounded[:, :count].reshape(packed.shape).movedim(-1, 1)


def codes_of(
    seen: Mapping[str, Seen], ties: Mapping[str, str], whole: Collection[str] = ()
) -> dict[str, Code]:
    """Return the code of each tensor.

    Args:
        seen: its values.
        ties: its tie: all tensors of one share the scale. Among them those that cannot be negative
            keep all codes for 0 and above, the others share their zero point.
        whole: those whose range is not cut.
    """
    groups: dict[tuple[str, bool], list[Seen]] = {}
    for name, found in seen.items():
        groups.setdefault((ties[name], found.low < 0), []).append(found)
    ranges = {
        (tie, signed): _range(members, 1 if tie in whole else _SHARES)
        for (tie, signed), members in groups.items()
    }
    widest: dict[str, float] = {}
    for (tie, _), (low, high) in ranges.items():
        widest[tie] = max(widest.get(tie, 0.0), high - low)
    codes: dict[str, Code] = {}
    for name, found in seen.items():
        low, high = ranges[ties[name], found.low < 0]
        zero = min(255, max(0, round(-low / (high - low) * 255)))
        codes[name] = Code(widest[ties[name]] / 255, zero)
    return codes


def _range(members: Sequence[Seen], shares: int) -> tuple[float, float]:
    """Return the range with the least squared error of clipping and rounding; it holds 0.

    The same choice as ``edge_fgr_export.ranges``, on a sample instead of a histogram.
    """
    low, high = min(seen.low for seen in members), max(seen.high for seen in members)
    if high <= low:
        return 0.0, max(high, 1e-6)
    values = torch.cat([part for seen in members for part in seen.sample])
    best, least = (low, high), float("inf")
    for share in torch.linspace(1.0, 0.3, shares).tolist():
        a, b = low * share, high * share
        clipped = values - values.clamp(a, b)
        inside = float((clipped == 0).sum())
        error = float(clipped.square().sum()) + ((b - a) / 255) ** 2 / 12 * inside
        if error < least:
            best, least = (a, b), error
    return best


def _levels(rows: Tensor, largest: Tensor) -> Tensor:
    """Return for each row ``(M, K)`` the integer that its largest weight is mapped to."""
    first, second = rows[:, 0::2], rows[:, 1::2]
    a, b = first.abs(), second.abs()
    sums = torch.where(first * second > 0, a + b, 0) / largest[:, None]
    of_largest = torch.where(torch.maximum(a, b) == largest[:, None], sums, 1).amax(1)  # 1 to 2
    levels = torch.full_like(largest, LEVELS[-1])
    least = torch.full_like(largest, torch.inf)
    for level in LEVELS:
        lowered = (sums * level - PAIR_LIMIT).clamp_min(0).square().sum(1) / 2
        cost = (lowered + rows.shape[1] / 12) / level**2
        better = (cost < least) & (level * of_largest <= PAIR_LIMIT * (1 + 1e-6))
        levels[better], least[better] = level, cost[better]
    return levels


def _lowered(exact: Tensor) -> Tensor:
    """Share the excess of each offending pair of ``(M, K)`` between both."""
    first, second = exact[:, 0::2], exact[:, 1::2]
    a, b = first.abs(), second.abs()
    over = (first * second > 0) & (a + b > PAIR_LIMIT)
    half = (PAIR_LIMIT + a - b) / 2
    first = torch.where(over, first.sign() * half, first)
    second = torch.where(over, second.sign() * (PAIR_LIMIT - half), second)
    return torch.stack([first, second], 2).flatten(1)
