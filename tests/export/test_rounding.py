"""Joint rounding: what descent and covariances of each group buy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_fgr_export.moments import Kernel, Moments
from edge_fgr_export.rounding import damped, descend, factor_of, round_alone, round_jointly
from edge_fgr_export.weights import quantise_weights, worst_pair
from edge_fgr_train.int8 import PAIR_LIMIT


def cost(values, exact, moments):
    errors = values - exact
    return np.einsum(
        "mk,mkj,mj->m", errors, np.broadcast_to(moments, (len(errors), *moments.shape[1:])), errors
    )


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 16)) + 0.2 * rng.normal(size=(500, 16))
    return rng.normal(size=(10, 16)) * 40, damped((inputs.T @ inputs / 500)[None])


@pytest.mark.parametrize("pair_safe", [True, False])
def test_descent_ends_where_no_single_step_helps(case, pair_safe):
    exact, moments = case
    start = round_alone(exact, pair_safe=pair_safe)
    values = descend(start, exact, moments, pair_safe=pair_safe)
    assert (cost(values, exact, moments) <= cost(start, exact, moments)).all()
    assert cost(values, exact, moments).sum() < 0.6 * cost(start, exact, moments).sum()
    assert not pair_safe or worst_pair(values) <= PAIR_LIMIT
    now = cost(values, exact, moments)
    for k, step in itertools.product(range(16), (-1, 1)):
        moved = values.astype(int)
        moved[:, k] += step
        allowed = np.abs(moved).max(axis=1) <= 127
        if pair_safe:
            allowed &= [worst_pair(row[None].astype(np.int8)) <= PAIR_LIMIT for row in moved]
        assert (cost(moved, exact, moments)[allowed] >= now[allowed] * (1 - 1e-6)).all()


def test_one_covariance_for_all_is_that_of_each(case):
    exact, moments = case
    each = np.repeat(moments, len(exact), axis=0)
    shared = round_jointly(exact, factor_of(moments), pair_safe=True)
    np.testing.assert_array_equal(shared, round_jointly(exact, factor_of(each), pair_safe=True))
    one, many = (descend(shared, exact, m, pair_safe=True) for m in (moments, each))
    np.testing.assert_array_equal(one, many)


def test_a_depthwise_layer_keeps_what_its_windows_share():
    """A filter of edges on bright pictures: what matters is that its sum stays 0."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(32, 1, 3, 3)).astype(np.float32)
    weights -= weights.mean(axis=(2, 3), keepdims=True)
    bright = rng.normal(size=(32, 2000, 1)) * 3 + 0.1 * rng.normal(size=(32, 2000, 9))
    covariance = np.stack([np.cov(rows.T) for rows in bright])
    moved = []
    for known in (None, covariance):
        values, scales = quantise_weights(weights, np.zeros(32), pair_safe=False, covariance=known)
        error = (values * scales[:, None, None, None] - weights).reshape(32, 9)
        moved.append(np.mean(np.einsum("mnk,mk->mn", bright, error) ** 2))
    assert moved[1] < 0.1 * moved[0]


def test_moments_of_gray_pictures_stay_positive():
    """What varies by 0.02 % of its mean: squares of floats would have lost it."""
    draws = np.random.default_rng(0)
    moments = Moments(Kernel("x", (1, 1)))
    batches = [(100 + draws.normal(0, 0.02, (4, 8, 16, 16))).astype(np.float32) for _ in range(8)]
    for batch in batches:
        moments.add(batch)
    seen = np.concatenate([batch.transpose(0, 2, 3, 1).reshape(-1, 8) for batch in batches])
    exact = np.cov(seen.astype(float), rowvar=False, bias=True)
    assert moments.covariance()[0] == pytest.approx(exact, abs=1e-4 * exact.max())
    assert np.isfinite(factor_of(damped(moments.covariance()))).all()
