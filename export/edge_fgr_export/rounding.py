"""Weights to integers: one by one, or jointly so that a layer's output moves least.

All work on rows ``(M, K)`` in units of their scale, in the order in which kernels pack the inner
dimension. Joint rounding minimises ``e H e`` of each row's error ``e``, where H is the second
moment of what the row sees: the objective of AdaRound (Nagel et al. 2020, "Up or Down?", equation
13). It is found by error feedback and then by descent, not by a relaxation: that has no step size,
no seed, and gives the same integers each time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_fgr_train.int8 import PAIR_LIMIT

__all__ = ["damped", "descend", "factor_of", "round_alone", "round_jointly", "times"]

Doubles = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]

_BLOCK = 64
"""Columns that are rounded before the rest is updated; even, so that no pair is cut."""

_DAMPING = 0.01
"""Share of the mean variance that is added to each variance, so that the inverse is tame."""

_LEAST_GAIN = 1e-9
"""Steps that gain less than this share of a row's cost are not worth taking."""


def damped(moments: Doubles) -> Doubles:
    """Return second moments ``(G, K, K)`` with a little added to the diagonal."""
    size = moments.shape[-1]
    mean = np.trace(moments, axis1=1, axis2=2) / size
    result: Doubles = moments + np.eye(size) * (_DAMPING * mean + 1e-12)[:, None, None]
    return result


def factor_of(moments: Doubles) -> Doubles:
    """Return upper triangles ``(G, K, K)`` with ``factor.T @ factor`` the inverse of each."""
    lower: Doubles = np.linalg.cholesky(np.linalg.inv(moments))
    return lower.transpose(0, 2, 1)


def round_alone(exact: Doubles, *, pair_safe: bool) -> Int8:
    """Round each weight to the nearest; share the excess of an offending pair between both."""
    values = np.clip(np.rint(exact), -127, 127)
    if pair_safe:
        even = exact.shape[1] // 2 * 2
        first = np.rint(_half_of_excess(exact[:, 0:even:2], exact[:, 1:even:2]))
        values[:, 0:even:2] = np.clip(first, -127, 127)
        values[:, 1:even:2] = _within(values[:, 1:even:2], values[:, 0:even:2])
    return values.astype(np.int8)


def round_jointly(exact: Doubles, factor: Doubles, *, pair_safe: bool) -> Int8:
    """Round column by column with error feedback (GPTQ: Frantar et al. 2022, section 3.2).

    A column's error is spread over the later columns so that the output's variance changes least.
    What lowering a pair costs is an error like any other.

    Args:
        exact: ``(M, K)``.
        factor: of ``factor_of``: ``(1, K, K)`` for all rows, or ``(M, K, K)``.
        pair_safe: keep every neighbouring pair within ``PAIR_LIMIT``.
    """
    count, shared = exact.shape[1], len(factor) == 1
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
            error = (exact[:, k] - values[:, k]) / factor[:, k, k]
            exact[:, k + 1 : end] -= error[:, None] * factor[:, k, k + 1 : end]
            errors[:, k - start] = error
        if shared:
            exact[:, end:] -= errors @ factor[0, start:end, end:]
        else:
            exact[:, end:] -= np.einsum("mb,mbk->mk", errors, factor[:, start:end, end:])
    return values.astype(np.int8)


def descend(values: Int8, exact: Doubles, moments: Doubles, *, pair_safe: bool) -> Int8:
    """Move single weights up or down by one while that lowers a row's cost.

    Each round takes every row's best step. It ends at integers from which no single step helps.

    Args:
        values: ``(M, K)``, where to begin.
        exact: ``(M, K)``.
        moments: ``(1, K, K)`` for all rows, or ``(M, K, K)``.
        pair_safe: keep every neighbouring pair within ``PAIR_LIMIT``.
    """
    now = values.astype(np.float64)
    rows = np.arange(len(now))
    each = np.broadcast_to(np.diagonal(moments, axis1=1, axis2=2), now.shape)
    errors = now - exact
    slope = times(errors, moments)
    least = _LEAST_GAIN * (errors * slope).sum(axis=1)
    active = rows
    for _ in range(2 * now.shape[1]):
        part, along = now[active], slope[active]
        step = np.where(along > 0, -1.0, 1.0)
        gain = 2 * np.abs(along) - each[active]
        gain[np.abs(part + step) > 127] = -np.inf
        if pair_safe:
            gain[_breaks_pair(part, step)] = -np.inf
        best = gain.argmax(axis=1)
        taken = gain[np.arange(len(active)), best] > least[active]
        active, best = active[taken], best[taken]
        if not len(active):
            break
        move = step[taken][np.arange(len(active)), best]
        now[active, best] += move
        which = np.zeros(len(active), int) if len(moments) == 1 else active
        slope[active] += move[:, None] * moments[which, best]
    return now.astype(np.int8)


def times(rows: Doubles, moments: Doubles) -> Doubles:
    """Multiply rows ``(M, K)`` by moments ``(1, K, K)`` of all, or ``(M, K, K)``, of each."""
    result: Doubles
    result = rows @ moments[0] if len(moments) == 1 else np.einsum("mk,mkj->mj", rows, moments)
    return result


def _breaks_pair(values: Doubles, step: Doubles) -> npt.NDArray[np.bool_]:
    """Return where a step would bring a neighbouring pair over the limit."""
    count = values.shape[1]
    partner = np.arange(count) ^ 1
    other = np.where(partner < count, values[:, np.minimum(partner, count - 1)], 0.0)
    moved = values + step
    return (moved * other > 0) & (np.abs(moved) + np.abs(other) > PAIR_LIMIT)


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
