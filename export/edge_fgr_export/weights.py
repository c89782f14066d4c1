"""INT8 weights: symmetric, a scale per output channel, free of pair saturation.

Processors without VNNI multiply uint8 activations by int8 weights in pairs and add the two
products in int16, which saturates (``vpmaddubsw``). The pairs are neighbours along the inner
dimension as the kernel packs it. When no pair of neighbouring weights adds up to more than
``PAIR_LIMIT`` in either direction, no activation can saturate it, and every processor computes
the same integers. Instead of dropping a bit of every weight, only offending pairs are lowered,
and where the covariance of the inputs is known, later weights make up for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["PAIR_LIMIT", "inner_order", "quantise_weights", "worst_pair"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]

PAIR_LIMIT = 128
"""255 * 128 = 32640 fits int16; 255 * 129 = 32895 does not."""

_BLOCK = 64
"""Columns that are rounded before the rest is updated; even, so that no pair is cut."""

_LEVELS = (127, 106, 88, 74, 64)
"""Candidates for the integer that a channel's largest weight is mapped to."""

_DAMPING = 0.01
"""Share of the mean variance that is added to each variance, so that the inverse is tame."""


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
        covariance: of the inputs ``(K, K)``, in the order of ``inner_order``. With it, what costs
            is the variance of the error at the output, and weights are rounded jointly.

    Returns:
        int8 values of the same shape, and float32 scales ``(M,)``: weight = value * scale.
    """
    order = inner_order(weights.shape)
    rows = weights.reshape(len(weights), -1)[:, order].astype(np.float64)  # (M, K)
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-12)
    joint = None if covariance is None else _damped(covariance)
    factor = None if joint is None else np.linalg.cholesky(np.linalg.inv(joint)).T
    best_values = np.zeros(rows.shape, np.int8)
    best_scales = np.zeros(len(rows), np.float32)
    best_costs = np.full(len(rows), np.inf)
    for level in _LEVELS if pair_safe else _LEVELS[:1]:
        scales = np.maximum(largest / level, least_scales).astype(np.float32)
        exact = rows / scales[:, None].astype(np.float64)
        if factor is None:
            values = _round_alone(exact, pair_safe=pair_safe)
        else:
            values = _round_jointly(exact, factor, pair_safe=pair_safe)
        errors = (values - exact) * scales[:, None]
        costs = ((errors if joint is None else errors @ joint) * errors).sum(axis=1)
        better = costs < best_costs
        best_values[better] = values[better]
        best_scales[better], best_costs[better] = scales[better], costs[better]
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


def _damped(covariance: Doubles) -> Doubles:
    mean = np.trace(covariance) / len(covariance)
    damped: Doubles = covariance + np.eye(len(covariance)) * (_DAMPING * mean + 1e-12)
    return damped


def _round_alone(exact: Doubles, *, pair_safe: bool) -> Int8:
    """Round each weight to the nearest; share the excess of an offending pair between both."""
    values = np.clip(np.rint(exact), -127, 127)
    if pair_safe:
        even = exact.shape[1] // 2 * 2
        first = np.rint(_half_of_excess(exact[:, 0:even:2], exact[:, 1:even:2]))
        values[:, 0:even:2] = np.clip(first, -127, 127)
        values[:, 1:even:2] = _within(values[:, 1:even:2], values[:, 0:even:2])
    return values.astype(np.int8)


def _round_jointly(exact: Doubles, factor: Doubles, *, pair_safe: bool) -> Int8:
    """Round column by column with error feedback (GPTQ: Frantar et al. 2022, section 3.2).

    A column's error is spread over the later columns so that the output's variance changes least.
    What lowering a pair costs is an error like any other. ``factor`` is the upper triangle with
    factor.T @ factor the inverse of the covariance.
    """
    count = exact.shape[1]
    exact = exact.copy()
    values = np.zeros(exact.shape)
    for start in range(0, count, _BLOCK):  # later blocks are updated at once: one large product
        end = min(start + _BLOCK, count)
        errors = np.zeros((len(exact), end - start))
        for k in range(start, end):
            wanted = exact[:, k]
            if pair_safe and k % 2 == 0 and k + 1 < count:
                wanted = _half_of_excess(wanted, exact[:, k + 1])
            values[:, k] = np.clip(np.rint(wanted), -127, 127)
            if pair_safe and k % 2:
                values[:, k] = _within(values[:, k], values[:, k - 1])
            error = (exact[:, k] - values[:, k]) / factor[k, k]
            exact[:, k + 1 : end] -= np.outer(error, factor[k, k + 1 : end])
            errors[:, k - start] = error
        exact[:, end:] -= errors @ factor[start:end, end:]
    return values.astype(np.int8)


def _half_of_excess(first: Doubles, second: Doubles) -> Doubles:
    """Lower the first of each offending pair by half of what the pair is over the limit."""
    a, b = np.abs(first), np.abs(second)
    over = (first * second > 0) & (a + b > PAIR_LIMIT)
    return np.where(over, np.sign(first) * np.maximum((PAIR_LIMIT + a - b) / 2, 0), first)


def _within(second: Doubles, first: Doubles) -> Doubles:
    """Bring the second of each pair within what the first, already rounded, leaves."""
    high = np.where(first > 0, PAIR_LIMIT - first, 127)
    low = np.where(first < 0, -PAIR_LIMIT - first, -127)
    return np.clip(second, np.maximum(low, -127), np.minimum(high, 127))
