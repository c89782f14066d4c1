"""Weights that no activation can saturate, and that cost little."""

from __future__ import annotations

import numpy as np
import pytest

from edge_fgr_export.weights import inner_order, quantise_weights, worst_pair
from edge_fgr_train.int8 import PAIR_LIMIT

SHAPES = [(16, 64, 1, 1), (8, 3, 3, 3), (8, 5, 3, 3), (4, 33), (2, 1, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", ["normal", "equal", "heavy"])
def test_no_pair_saturates(shape, spread):
    rng = np.random.default_rng(0)
    weights = {
        "normal": rng.normal(size=shape),
        "equal": np.ones(shape),
        "heavy": rng.standard_t(2, size=shape),
    }[spread].astype(np.float32)
    values, scales = quantise_weights(weights, np.zeros(len(weights)), pair_safe=True)
    assert values.dtype == np.int8 and scales.dtype == np.float32
    assert worst_pair(values) <= PAIR_LIMIT
    # What vpmaddubsw computes for the worst activations, in the order of each packing.
    rows = values.reshape(len(values), -1).astype(np.int64)
    ordered = rows[:, inner_order(shape)]
    ordered = np.pad(ordered, ((0, 0), (0, ordered.shape[1] % 2)))
    for sign in (1, -1):
        sums = (255 * np.clip(sign * ordered, 0, None)).reshape(len(rows), -1, 2).sum(2)
        assert sums.max() <= 32767


def test_joint_rounding_keeps_the_rule_and_moves_outputs_less():
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(12, 48)) @ np.diag(rng.uniform(0.1, 3, 48))
    inputs = rng.normal(size=(4000, 12)) @ mixing + 0.1 * rng.normal(size=(4000, 48))
    weights = rng.standard_t(3, size=(20, 48)).astype(np.float32)
    errors = []
    for covariance in (None, np.cov(inputs.T)[None]):
        values, scales = quantise_weights(
            weights, np.zeros(20), pair_safe=True, covariance=covariance
        )
        assert worst_pair(values) <= PAIR_LIMIT
        errors.append(np.var(inputs @ (values * scales[:, None] - weights).T))
    assert errors[1] < 0.5 * errors[0]


def test_kernels_run_channels_last():
    order = inner_order((1, 3, 2, 2))
    assert order[:3].tolist() == [0, 4, 8]  # the three channels of the first position


def test_saturation_would_happen_without_the_rule():
    values, _ = quantise_weights(np.ones((1, 8), np.float32), np.zeros(1), pair_safe=False)
    assert worst_pair(values) == 254


def test_costs_less_than_dropping_a_bit():
    weights = np.random.default_rng(1).normal(size=(64, 256, 1, 1)).astype(np.float32)
    values, scales = quantise_weights(weights, np.zeros(64), pair_safe=True)
    error = np.square(values * scales[:, None, None, None] - weights).mean()
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    seven_bits = np.rint(weights / largest * 63) * largest / 63
    full, full_scales = quantise_weights(weights, np.zeros(64), pair_safe=False)
    best = np.square(full * full_scales[:, None, None, None] - weights).mean()
    assert error < 0.5 * np.square(seven_bits - weights).mean()
    assert error < 2.0 * best


def test_empty_channel_keeps_its_least_scale():
    values, scales = quantise_weights(
        np.zeros((1, 4), np.float32), np.full(1, 0.5, np.float32), pair_safe=True
    )
    assert not values.any() and scales[0] == 0.5
