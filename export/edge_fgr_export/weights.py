"""INT8 weights: symmetric, a scale per output channel, free of pair saturation.

Processors without VNNI multiply uint8 activations by int8 weights in pairs and add the two
products in int16, which saturates (``vpmaddubsw``). The pairs are neighbours along the inner
dimension as the kernel packs it. When no pair of neighbouring weights adds up to more than
``PAIR_LIMIT`` in either direction, no activation can saturate it, and every processor computes
the same integers. Instead of dropping a bit of every weight, only offending pairs are lowered.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["PAIR_LIMIT", "inner_orders", "quantise_weights", "worst_pair"]

Floats = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

PAIR_LIMIT = 128
"""255 * 128 = 32640 fits int16; 255 * 129 = 32895 does not."""

_LEVELS = range(127, 63, -3)
"""Candidates for the integer that a channel's largest weight is mapped to."""


def inner_orders(shape: tuple[int, ...]) -> list[npt.NDArray[np.intp]]:
    """Return the orders in which kernels may pack the inner dimension of ``(M, ...)`` weights.

    Convolutions run channels-last, where the inner dimension is (kh, kw, channel); the order of
    the file, (channel, kh, kw), is kept safe as well.
    """
    count = int(np.prod(shape[1:]))
    as_stored = np.arange(count)
    if len(shape) != 4 or shape[2:] == (1, 1):
        return [as_stored]
    return [as_stored.reshape(shape[1:]).transpose(1, 2, 0).reshape(-1), as_stored]


def quantise_weights(
    weights: Floats, least_scales: Floats, *, pair_safe: bool
) -> tuple[Int8, Floats]:
    """Round weights ``(M, ...)`` to int8 with the scale per channel that costs least.

    Args:
        weights: float32; the first axis is the output channel.
        least_scales: ``(M,)``, a lower bound of each scale.
        pair_safe: keep every neighbouring pair within ``PAIR_LIMIT``.

    Returns:
        int8 values of the same shape, and float32 scales ``(M,)``: weight = value * scale.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)  # (M, K)
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-12)
    orders = inner_orders(weights.shape) if pair_safe else []
    best_values = np.zeros(rows.shape, np.int8)
    best_scales = np.zeros(len(rows))
    best_errors = np.full(len(rows), np.inf)
    for level in _LEVELS if pair_safe else (127,):
        scales = np.maximum(largest / level, least_scales).astype(np.float32).astype(np.float64)
        exact = rows / scales[:, None]
        values = np.clip(np.rint(exact), -127, 127)
        for _ in range(8):
            if not sum(_lower_pairs(values, exact, order) for order in orders):
                break
        errors = (((values - exact) * scales[:, None]) ** 2).sum(axis=1)
        better = errors < best_errors
        best_values[better] = values[better].astype(np.int8)
        best_scales[better], best_errors[better] = scales[better], errors[better]
    if pair_safe and worst_pair(best_values.reshape(weights.shape)) > PAIR_LIMIT:
        raise AssertionError("pairs were not lowered; a bug in edge-fgr")
    return best_values.reshape(weights.shape), best_scales.astype(np.float32)


def worst_pair(values: Int8) -> int:
    """Return the largest absolute sum of a neighbouring pair of one sign, over all orders."""
    rows = values.reshape(len(values), -1).astype(np.int64)
    worst = 0
    for order in inner_orders(values.shape):
        first, second = _pairs(rows[:, order])
        high = np.maximum(first, 0) + np.maximum(second, 0)
        low = np.minimum(first, 0) + np.minimum(second, 0)
        worst = max(worst, int(high.max(initial=0)), int(-low.min(initial=0)))
    return worst


def _pairs(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if rows.shape[1] % 2:  # kernels pad an odd dimension with zero
        rows = np.pad(rows, ((0, 0), (0, 1)))
    return rows[:, 0::2], rows[:, 1::2]


def _lower_pairs(
    values: npt.NDArray[np.float64], exact: npt.NDArray[np.float64], order: npt.NDArray[np.intp]
) -> int:
    """Lower offending pairs in place, each step where it costs least; return how many there were.

    Within a pair the cheapest integer point on the limit is nearest to the exact values: the
    excess is shared so that both ends stay equally far from where they should be.
    """
    even = len(order) // 2 * 2
    left, right = order[0:even:2], order[1:even:2]
    a, b = values[:, left], values[:, right]
    over = (np.abs(a + b) > PAIR_LIMIT) & (a * b > 0)
    if not over.any():
        return 0
    sign = np.sign(a)
    x, y = np.abs(exact[:, left]), np.abs(exact[:, right])
    lower_a = np.clip(np.rint((PAIR_LIMIT + x - y) / 2), 1, 127)
    values[:, left] = np.where(over, sign * lower_a, a)
    values[:, right] = np.where(over, sign * np.clip(PAIR_LIMIT - lower_a, 1, 127), b)
    return int(over.sum())
