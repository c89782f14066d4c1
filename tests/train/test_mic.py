"""MIC: functions score 1, independence does not, and the search finds what exhaustive search finds.

Noise is right here: the scores depend on ranks only, and their distribution is what is tested.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edge_fgr.errors import UsageError
from edge_fgr_train import mic
from edge_fgr_train.mic import mic_e, mic_e_many, mic_labels, permutation_threshold

GRID = np.linspace(0, 1, 1000)
FUNCTIONS = {
    "line": lambda x: 2 * x - 1,
    "falling line": lambda x: -x,
    "parabola": lambda x: (x - 0.5) ** 2,
    "exponential": lambda x: np.exp(10 * x),
    "sine, 1 period": lambda x: np.sin(2 * np.pi * x),
    "sine, 4 periods": lambda x: np.sin(8 * np.pi * x),
    "sine, 5 periods": lambda x: np.sin(10 * np.pi * x),
    "cosine, 5 periods": lambda x: np.cos(10 * np.pi * x),
}


def tied_columns(seed, n):
    """Columns with no ties, some, many, and a value that half of the rows share."""
    random = np.random.default_rng(seed)
    return np.stack(
        [
            random.permutation(n),
            random.integers(0, n, n),
            random.integers(0, 3, n),
            np.maximum(random.integers(-n, n, n), 0),
        ],
        axis=1,
    ).astype(np.float64)


def information(rows, columns):
    """Mutual information in bits, by its definition."""
    joint = np.zeros((max(rows) + 1, max(columns) + 1))
    np.add.at(joint, (rows, columns), 1 / len(rows))
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / product[there])).sum())


def best_by_exhaustion(values, rows, bins):
    """The largest information of all partitions of the values into at most so many bins."""
    distinct = np.unique(values)
    return max(
        information(rows, np.searchsorted(np.array(cuts), values, side="right"))
        for count in range(1, bins)
        for cuts in combinations(distinct[1:], min(count, len(distinct) - 1))
    )


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_noiseless_function_scores_one(function):
    assert mic_e(GRID, function(GRID)) >= 0.99


def test_random_samples_of_a_function_come_nearer_to_one():
    random = np.random.default_rng(0)
    scores = [mic_e(x, np.sin(4 * np.pi * x)) for x in map(random.random, (100, 1000, 10_000))]
    assert scores == sorted(scores)
    assert 0.98 < scores[-1] <= 1


def test_a_circle_is_far_above_independence():
    angle = np.random.default_rng(0).random(1000) * 2 * np.pi
    assert mic_e(np.cos(angle), np.sin(angle)) > 0.6


def test_independence_falls_with_n():
    random = np.random.default_rng(1)
    means = [mic_e_many(random.random((n, 100)), np.arange(n)).mean() for n in (50, 200, 1000)]
    assert means == sorted(means, reverse=True)
    assert means[0] < 0.2
    assert means[-1] < 0.04


@pytest.mark.parametrize("n", [10, 61, 200])
def test_mic_e_sees_ranks_only_and_is_symmetric(n):
    x = tied_columns(n, n)
    y = np.maximum(x[:, 0] - n / 3, 0) + np.random.default_rng(0).integers(0, 4, n)
    scores = mic_e_many(x, y)
    for same_x, same_y in ((np.exp(x / n), y**3), (-x, y), (x, -y), (-(x**3), np.exp(-y / n))):
        assert np.array_equal(mic_e_many(same_x, same_y), scores)
    for column, score in zip(x.T, scores, strict=True):
        assert mic_e(column, y) == mic_e(y, column) == score


def test_labels_see_ranks_only():
    x = tied_columns(3, 500)
    labels = np.random.default_rng(4).integers(0, 7, 500)
    scores = mic_labels(x, labels)
    assert np.array_equal(mic_labels(np.exp(x / 500), labels), scores)
    assert np.array_equal(mic_labels(-x, labels), scores)
    assert np.array_equal(mic_labels(x.astype(np.int64), labels), scores)


@pytest.mark.parametrize("seed", range(4))
def test_mic_e_against_exhaustive_search(seed):
    n = 8 + seed % 3
    columns = tied_columns(seed, n)
    target = columns[:, (seed + 1) % 4]
    expected = [
        max(
            best_by_exhaustion(free, rows[0], k) / np.log2(k)
            for free, fixed in ((column, target), (target, column))
            for count in range(2, n // 2 + 1)
            for rows in mic._ranks(fixed[None]).cells(count)
            for k in range(2, min(count, n // count) + 1)
        )
        for column in columns.T
    ]
    assert mic_e_many(columns, target, alpha=1) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_labels_against_exhaustive_search(seed):
    n = 7 + seed
    columns = tied_columns(seed, n)
    labels = np.random.default_rng(seed).integers(0, 3, n)
    assert len(set(labels.tolist())) == 3
    expected = [
        max(best_by_exhaustion(x, labels, k) / np.log2(min(k, 3)) for k in range(2, 6))
        for x in columns.T
    ]
    assert mic_labels(columns, labels, bins=5, clumps=2) == pytest.approx(expected, abs=1e-8)


def test_few_candidates_come_near_to_all():
    random = np.random.default_rng(5)
    labels = random.integers(0, 10, 400)
    x = labels[:, None] * np.linspace(0, 1, 20) + random.normal(0, 2, (400, 20))
    few, every = (mic_labels(x, labels, bins=4, clumps=c) for c in (15, 100))
    assert (few <= every).all()
    assert (few > 0.85 * every).all()


@pytest.mark.parametrize("seed", range(50))
def test_cuts_keep_ties_together_and_counts_equal(seed):
    n = 11 + seed
    columns = tied_columns(seed, n)
    ranks, reversed_ranks = mic._ranks(columns.T), mic._ranks(-columns.T)
    for parts in (2, 3, 6, 7):
        mirrored = n - reversed_ranks.cuts(parts)[:, ::-1]
        for values, cuts, other in zip(columns.T, ranks.cuts(parts), mirrored, strict=True):
            ends = {0, *np.cumsum(np.unique(values, return_counts=True)[1]).tolist()}
            assert set(cuts.tolist()) <= ends
            assert set(cuts.tolist()) == set(other.tolist())
            assert len(ends) > parts + 1 or set(cuts.tolist()) == ends
        for cells in ranks.cells(parts):
            assert cells.min() == 0
            assert cells.max() < parts
            assert np.ptp(np.bincount(cells[0], minlength=parts)) <= 1


@pytest.mark.parametrize("classes", [2, 4, 8])
def test_a_feature_that_is_the_class_scores_one(classes):
    labels = np.arange(40) % classes
    assert mic_labels(labels[:, None].astype(float), labels) == pytest.approx(1, abs=1e-9)


def test_81_classes_are_ordered_by_what_a_feature_tells():
    random = np.random.default_rng(6)
    labels = random.integers(0, 81, 2000)
    x = random.permutation(81)[labels][:, None] + random.normal(0, 1, (2000, 5)) * [
        1,
        9,
        27,
        81,
        1e6,
    ]
    scores = mic_labels(x, labels)
    assert (np.diff(scores) < 0).all()
    assert scores[0] > 0.9
    assert 0 < scores[-1] < 0.12


def test_the_numbers_of_classes_and_the_blocks_change_no_bit(monkeypatch):
    random = np.random.default_rng(7)
    labels = random.integers(0, 81, 900)
    x = random.random((900, 40)) + labels[:, None] / 81
    scores, functional = mic_labels(x, labels), mic_e_many(x, labels)
    for _ in range(3):
        assert np.array_equal(mic_labels(x, random.permutation(1000)[labels] - 500), scores)
    monkeypatch.setattr(mic, "_BLOCK", 20_000)
    assert np.array_equal(mic_labels(x, labels), scores)
    assert np.array_equal(mic_e_many(x, labels), functional)


def test_constants_score_zero():
    constant = np.full((50, 2), 3.0)
    assert not mic_labels(constant, np.arange(50) % 3).any()
    assert not mic_e_many(constant, np.arange(50)).any()
    assert mic_e(np.arange(50), constant[:, 0]) == 0


def test_the_threshold_of_labels_holds_its_level():
    labels = np.repeat(np.arange(5), (4, 6, 8, 12, 20))
    threshold = permutation_threshold(lambda x: mic_labels(x, labels), 50, draws=20_000)
    fresh = mic_labels(np.random.default_rng(8).normal(size=(50, 4000)), labels)
    assert 0.04 < (fresh > threshold).mean() < 0.06


def test_the_threshold_of_mic_e_holds_its_level():
    threshold = permutation_threshold(lambda x: mic_e_many(x, np.arange(100)), 100, draws=20_000)
    random = np.random.default_rng(9)
    fresh = mic_e_many(random.normal(size=(100, 4000)), random.normal(size=100))
    assert 0.04 < (fresh > threshold).mean() < 0.06


@pytest.mark.parametrize(
    "call",
    [
        lambda x: mic_labels(x * np.nan, np.arange(6) % 2),
        lambda x: mic_labels(x + np.inf, np.arange(6) % 2),
        lambda x: mic_labels(x[:, 0], np.arange(6) % 2),
        lambda x: mic_labels(x, np.arange(5) % 2),
        lambda x: mic_labels(x, np.zeros(6, int)),
        lambda x: mic_labels(x, np.arange(6) / 2),
        lambda x: mic_labels(x[:1], np.zeros(1, int)),
        lambda x: mic_labels(x, np.arange(6) % 2, bins=1),
        lambda x: mic_labels(x, np.arange(6) % 2, clumps=0),
        lambda x: mic_labels(x.astype(str), np.arange(6) % 2),
        lambda x: mic_e(x[:, 0], x[:, 0] * np.nan),
        lambda x: mic_e(x[:, 0], x[:5, 0]),
        lambda x: mic_e(x, x[:, 0]),
        lambda x: mic_e(x[:1, 0], x[:1, 0]),
        lambda x: mic_e(x[:, 0], x[:, 0], alpha=0),
        lambda x: mic_e(x[:, 0], x[:, 0], alpha=1.1),
        lambda x: mic_e(x[:, 0], x[:, 0], clumps=0),
        lambda x: permutation_threshold(lambda _: x[0], 6, level=0),
        lambda x: permutation_threshold(lambda _: x[0], 6, draws=18),
        lambda x: permutation_threshold(lambda _: x[0], 1),
    ],
)
def test_what_cannot_be_meant_is_refused(call):
    with pytest.raises(UsageError, match="mic: "):
        call(np.arange(12.0).reshape(6, 2))
