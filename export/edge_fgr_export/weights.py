"""INT8 weights: symmetric, a scale per output channel, free of pair saturation.

Processors without VNNI multiply uint8 activations by int8 weights in pairs and add the two
products in int16, which saturates (``vpmaddubsw``). The pairs are neighbours along the inner
dimension as the kernel packs it. When no pair of neighbouring weights adds up to more than
``PAIR_LIMIT`` in either direction, no activation can saturate it, and every processor computes
the same integers. Instead of dropping a bit of every weight, only offending pairs are lowered,
and where the covariance of the inputs is known, other weights make up for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_fgr_export.rounding import (
    damped,
    descend,
    factor_of,
    round_alone,
    round_jointly,
    times,
)
from edge_fgr_train.int8 import LEVELS, PAIR_LIMIT

__all__ = ["inner_order", "quantise_weights", "worst_pair"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]


def inner_order(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the order in which kernels pack the inner dimension of weights ``(M, C, …)``.

    Integer convolutions run channels-last: (kh, kw, channel), where the file has (channel, kh, kw).
    """
    stored = np.arange(int(np.prod(shape[1:])))
    return stored.reshape(shape[1:]).transpose(1, 2, 0).reshape(-1) if len(shape) == 4 else stored


def quantise_weights(
    weights: Floats,
    least_scales: Floats,
    *,
    pair_safe: bool,
    covariance: Doubles | None = None,
) -> tuple[Int8, Floats]:
    """Round weights ``(M, …)`` to int8 with the scale per channel that costs least.

    Args:
        weights: float32; the first axis is the output channel.
        least_scales: ``(M,)``, a lower bound of each scale.
        pair_safe: keep every neighbouring pair within ``PAIR_LIMIT``.
        covariance: of the inputs ``(G, K, K)``, in the order of ``inner_order``, for each of G
            groups of output channels. With it, what costs is the variance of the error at the
            output, and weights are rounded jointly.

    Returns:
        int8 values of the same shape, and float32 scales ``(M,)``: weight = value * scale.
    """
    order = inner_order(weights.shape)
    rows = weights.reshape(len(weights), -1)[:, order].astype(np.float64)  # (M, K)
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-12)
    joint = factor = None
    if covariance is not None:
        joint = damped(covariance)
        factor = factor_of(joint)
        if len(joint) > 1:
            joint, factor = (np.repeat(x, len(rows) // len(x), axis=0) for x in (joint, factor))
    best_values = np.zeros(rows.shape, np.int8)
    best_scales = np.zeros(len(rows), np.float32)
    best_costs = np.full(len(rows), np.inf)
    for level in LEVELS if pair_safe or joint is not None else LEVELS[:1]:
        scales = np.maximum(largest / level, least_scales).astype(np.float32)
        exact = rows / scales[:, None].astype(np.float64)
        if joint is None or factor is None:
            values = round_alone(exact, pair_safe=pair_safe)
        else:
            values = round_jointly(exact, factor, pair_safe=pair_safe)
        costs = _costs((values - exact) * scales[:, None], joint)
        better = costs < best_costs
        best_values[better] = values[better]
        best_scales[better], best_costs[better] = scales[better], costs[better]
    if joint is not None:
        exact = rows / best_scales[:, None].astype(np.float64)
        best_values = descend(best_values, exact, joint, pair_safe=pair_safe)
    result = np.empty_like(best_values)
    result[:, order] = best_values
    result = result.reshape(weights.shape)
    if pair_safe and worst_pair(result) > PAIR_LIMIT:
        raise AssertionError("pairs were not lowered; a bug in edge-fgr")
    return result, best_scales


def worst_pair(values: Int8) -> int:
    """Return the largest absolute sum of a neighbouring pair of one sign."""
    rows = values.reshape(len(values), -1)[:, inner_order(values.shape)].astype(np.int64)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))  # kernels pad an odd dimension with zero
    first, second = rows[:, 0::2], rows[:, 1::2]
    high = np.maximum(first, 0) + np.maximum(second, 0)
    low = np.minimum(first, 0) + np.minimum(second, 0)
    return max(int(high.max(initial=0)), int(-low.min(initial=0)))


def _costs(errors: Doubles, joint: Doubles | None) -> Doubles:
    """Return what the errors ``(M, K)`` of each row cost, ``(M,)``."""
    moved = errors if joint is None else times(errors, joint)
    costs: Doubles = (moved * errors).sum(axis=1)
    return costs
