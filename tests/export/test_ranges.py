"""From histograms to ranges."""

from __future__ import annotations

import numpy as np
import pytest

from edge_fgr_export.range_methods import METHODS, Histogram, cost, least_error, ranges_by_method
from edge_fgr_export.ranges import Statistics


def histogram(values, low, high, bins=2048):
    return Histogram(np.histogram(values, bins, (low, high))[0].astype(float), low, high)


@pytest.fixture
def normal():
    values = np.random.default_rng(0).normal(size=200_000)
    return histogram(values, -8.0, 8.0), values


def test_least_error_cuts_a_lone_outlier():
    counts = np.zeros(2048)
    counts[1024:1100] = 1e6
    counts[2047] = 1
    low, high = least_error(Histogram(counts, -10.0, 10.0), -10.0, 10.0)
    assert high < 5 and low <= 0
    flat = least_error(Histogram(np.ones(2048), -1.0, 1.0), -1.0, 1.0)
    assert flat == pytest.approx((-1.0, 1.0), abs=0.05)


def test_the_cost_is_what_rounding_costs(normal):
    seen, values = normal
    for low, high in ((-3.0, 3.0), (-4.5, 4.5), (-1.5, 2.0)):
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        codes = np.clip(np.rint(values / scale) + zero, 0, 255)
        real = np.mean(((codes - zero) * scale - values) ** 2)
        assert cost(seen, (low, high)) == pytest.approx(real, rel=0.1)


def test_methods_on_a_bell(normal):
    seen, values = normal
    low, high = float(values.min()), float(values.max())
    offered = ranges_by_method(seen, low, high)
    assert set(offered) == set(METHODS)
    assert offered["min-max"] == (low, high)
    assert offered["percentile"][1] == pytest.approx(np.quantile(values, 1 - 1e-4), abs=0.05)
    for a, b in offered.values():
        assert low <= a < 0 < b <= high
    assert cost(seen, offered["mse"]) == min(cost(seen, chosen) for chosen in offered.values())


def test_a_spike_at_zero_does_not_shrink_the_range():
    """ReLU makes one; told as part of the distribution, entropy would cut most of the rest."""
    rng = np.random.default_rng(1)
    values = np.concatenate([np.zeros(300_000), rng.uniform(0, 6, 100_000)])
    offered = ranges_by_method(histogram(values, 0.0, 6.0), 0.0, 6.0)
    assert offered["entropy"][1] > 5.5 and offered["mse"][1] > 5.5


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_a_silent_tensor_still_has_a_range(value):
    offered = ranges_by_method(histogram(np.zeros(10), 0.0, value or 1.0), 0.0, value)
    assert all(high > low for low, high in offered.values())


def test_each_tensor_takes_what_costs_least_on_other_images():
    offered = {"a": {"mse": (0, 1), "min-max": (0, 2)}, "b": {"mse": (0, 3), "min-max": (0, 4)}}
    offered = {g: {**dict.fromkeys(METHODS, (0, 9)), **found} for g, found in offered.items()}
    costs = {g: dict.fromkeys(METHODS, 9.0) for g in offered}
    costs["a"]["min-max"], costs["b"]["mse"] = 1.0, 2.0
    seen = Statistics({}, {}, {}, {}, offered, costs)
    assert seen.by("auto").ranges == {"a": (0, 2), "b": (0, 3)}
    assert seen.by("mse").ranges == {"a": (0, 1), "b": (0, 3)}
