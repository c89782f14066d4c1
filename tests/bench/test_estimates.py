"""Figures and their intervals: known values, and intervals that hold the truth as often as said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from documents import document, without

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_bench.answers import Share
from edge_fgr_bench.estimates import calibration, difference, macro
from edge_fgr_bench.figures import figures_of
from edge_fgr_bench.gates import judge_gates, read_gates
from edge_fgr_bench.summary import energy, percentile, speed_of, wilson
from edge_fgr_bench.sure import calibration_error
from edge_fgr_train.evaluate import wilson as wilson_of_training

DRAWS = 500


@pytest.fixture(scope="module")
def made(photos):
    return document(photos)


def held(truth, shares):
    return float(np.mean([share.low <= truth <= share.high for share in shares]))


def test_percentiles_of_known_samples():
    samples = list(range(1, 102))
    middle = percentile(samples[::-1], 0.5)
    assert middle.value == 51 and middle.low < 51 < middle.high
    # Binomial of 101 and one half: 95 % lie between its 41st and 61st success, or just outside.
    assert 39 <= middle.low <= 42 and 60 <= middle.high <= 63
    assert percentile(samples, 0.9).value == pytest.approx(91)
    assert percentile(samples, 0.99).high == 101
    assert percentile([5000], 0.5, 1e-3) == Share(5, 5, 5)
    assert percentile([1, 2], 0.99, 10) == Share(pytest.approx(19.9), 10, 20)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_interval_of_a_percentile_holds_the_true_one(share):
    random = np.random.default_rng(7)
    truth = -math.log(1 - share)  # of an exponential distribution
    drawn = [percentile(random.exponential(size=1024), share) for _ in range(DRAWS)]
    assert 0.93 <= held(truth, drawn) <= 0.99


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 40), (28, 32), (199, 200)])
def test_wilson_is_that_of_training(hits, total):
    low, high = wilson_of_training(hits, total)
    share = wilson(hits, total)
    assert share.value == hits / total
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)  # 1.96 there


def test_macro_counts_classes_alike_however_many_images_they_have():
    truths = np.array([7] * 90 + [2] * 10)
    right = np.concatenate([np.ones(90, bool), np.zeros(10, bool)])
    found = macro(right, truths)
    assert found == Share(0.5, 0.5, 0.5)  # no resample changes a class that is all right or wrong
    right[:45] = False
    found = macro(right, truths)
    assert found.value == pytest.approx(0.25)
    assert 0.18 < found.low < 0.25 < found.high < 0.32
    assert macro(right, truths) == found
    one = macro(np.array([True]), np.array([3]))
    assert one == Share(1, 1, 1)


def test_the_interval_of_macro_holds_the_true_one():
    random = np.random.default_rng(3)
    counts, shares = (120, 60, 20), (0.9, 0.7, 0.5)
    truths = np.repeat(np.arange(3), counts)
    each = np.repeat(shares, counts)
    drawn = [macro(random.random(len(each)) < each, truths) for _ in range(100)]
    assert held(np.mean(shares), drawn) >= 0.88


def test_calibration_is_that_of_the_other_bench():
    random = np.random.default_rng(1)
    values = random.dirichlet([0.3] * 5, 200)
    targets = random.integers(0, 5, 200)
    found = calibration(values.max(axis=1), values.argmax(axis=1) == targets)
    assert found.value == pytest.approx(calibration_error(values, targets), abs=1e-12)
    assert found.low < found.value < found.high
    sure = calibration(np.array([1.0, 1.0]), np.array([True, True]))
    assert sure == Share(0, 0, 0)


def test_a_difference_has_a_sign_and_is_symmetric():
    fall = difference(30, 10, 400)
    assert fall.value == 0.05 and 0 < fall.low < fall.value < fall.high < 0.1
    rise = difference(10, 30, 400)
    assert (rise.value, rise.low, rise.high) == pytest.approx((-fall.value, -fall.high, -fall.low))
    same = difference(0, 0, 10)
    assert same.value == 0 and same.low == -same.high and same.high > 0
    for lost, won, total in [(1, 0, 1), (5, 0, 5), (0, 3, 1000), (2, 2, 4)]:
        one = difference(lost, won, total)
        assert one.low <= one.value <= one.high


@pytest.mark.parametrize(("lost", "won"), [(0.06, 0.03), (0.02, 0.02), (0.2, 0.1)])
def test_the_interval_of_a_difference_holds_the_true_one(lost, won):
    random = np.random.default_rng(5)
    counts = random.multinomial(300, [lost, won, 1 - lost - won], 2000)
    drawn = [difference(int(a), int(b), 300) for a, b, _ in counts]
    assert 0.93 <= held(lost - won, drawn) <= 0.98


def test_figures_have_names_and_the_units_that_people_use(made):
    found = figures_of(made, "B")
    assert set(found) == {
        "size_mib", "p50_ms", "p90_ms", "p99_ms", "cold_ms", "images_per_s", "memory_mib", "joules",
        "top1", "macro", "coarse", "ece", "unknown", "agreement", "drop", "robust_top1",
    }  # fmt: skip
    latency, judged = made.latency[1], made.accuracy.judged[1]
    assert found["size_mib"] == pytest.approx(3_700_000 / 2**20)
    assert found["p50_ms"] == pytest.approx(np.median(latency.us["whole"]) / 1000)
    assert found["cold_ms"] == sorted(latency.cold_ms)[2]
    assert found["memory_mib"] == pytest.approx(latency.peak_kib / 1024)
    joules = sum(block.joules for block in latency.blocks) / sum(b.queries for b in latency.blocks)
    assert found["joules"] == energy(latency) == pytest.approx(joules)
    assert found["top1"] == 100 * judged.top1.value and found["ece"] == pytest.approx(4.1)
    pair = made.accuracy.pairs[0]
    assert found["agreement"] == 100 * pair.agreement.value
    assert found["drop"] == pytest.approx(100 * (pair.lost - pair.won) / pair.labelled)
    cells = [c for c in made.robustness.cells if c.key == "B" and c.severity]
    assert found["robust_top1"] == pytest.approx(
        100 * sum(cell.right / cell.images for cell in cells) / len(cells)
    )
    first = figures_of(made, "A")
    assert not {"agreement", "drop"} & set(first)  # the first is compared with nothing
    assert set(figures_of(without(made, "latency", "accuracy", "robustness"), "A")) == {"size_mib"}
    silent = replace(made, latency=(replace(made.latency[0], us=None, cold_ms=(), blocks=()),))
    assert not {"p50_ms", "cold_ms", "joules"} & set(figures_of(silent, "A"))
    assert speed_of(silent.latency[0]).queries == 0


def gates_of(folder, text):
    path = folder / "gates.toml"
    path.write_text(text)
    return read_gates(path)


def with_top1(made, hits, total):
    one = replace(made.accuracy.judged[0], top1=wilson(hits, total))
    return replace(made, accuracy=replace(made.accuracy, judged=(one, *made.accuracy.judged[1:])))


def test_limits_are_kept_at_their_very_number(made, tmp_path):
    gates = gates_of(tmp_path, '[[gate]]\nmodel = "lite0-fp32*"\nmin_top1 = 99.5\n')
    (kept,) = judge_gates(gates, with_top1(made, 199, 200))
    assert kept.kept and "top1 99.5 >= 99.5 (min_top1)" in kept.line
    (broken,) = judge_gates(gates, with_top1(made, 198, 200))
    assert not broken.kept and "top1 99 < 99.5 (min_top1)" in broken.line
    exact = figures_of(made, "A")["p90_ms"]
    for most, held_ in ((exact, True), (exact * 0.999, False)):
        text = f'[[gate]]\nmodel = "lite0-fp32*"\nmax_p90_ms = {most!r}\n'
        (outcome,) = judge_gates(gates_of(tmp_path, text), made)
        assert outcome.kept is held_ and outcome.line.startswith("A lite0 fp32 on cpu: p90_ms")
        assert (" <= " if held_ else " > ") in outcome.line


def test_patterns_name_candidates_and_silence_is_no_proof(made, tmp_path):
    gates = gates_of(tmp_path, '[[gate]]\nmodel = "*int8*"\ndevice = "c*"\nmax_size_mib = 3.6\n')
    assert [one.kept for one in judge_gates(gates, made)] == [True, True]
    gates = gates_of(tmp_path, '[[gate]]\nmodel = "mobile"\nmin_top1 = 0\nmax_cold_ms = 1e9\n')
    found = judge_gates(gates, without(made, "accuracy"))
    by_name = {("min_top1" in one.line, one.kept) for one in found}
    assert by_name == {(True, False), (False, True)} and "was not measured" in found[1].line
    gates = gates_of(tmp_path, '[[gate]]\ndevice = "cuda"\nmin_top1 = 1\n')
    (found,) = judge_gates(gates, made)
    assert not found.kept and "on device 'cuda' names no candidate" in found.line


def test_a_baseline_is_read_beside_the_gates(made, tmp_path):
    (tmp_path / "earlier.json").write_text(made.to_json())
    gates = gates_of(tmp_path, '[baseline]\nfile = "earlier.json"\nslower = 5\ndrop = 1\n')
    found = judge_gates(gates, made)
    assert len(found) == 12 and all(one.kept for one in found)
    worse = with_top1(made, 1, 2)
    (broken,) = [one for one in judge_gates(gates, worse) if not one.kept]
    assert "A lite0 fp32 on cpu against" in broken.line and "top1 50, was" in broken.line
    other = replace(made, candidates=(replace(made.candidates[0], name="new"),))
    (outcome,) = judge_gates(gates, other)
    assert not outcome.kept and "holds no fp32 new" in outcome.line


def test_gates_that_cannot_be_meant(tmp_path):
    with pytest.raises(UsageError, match="'max_p90'"):
        gates_of(tmp_path, "[[gate]]\nmax_p90 = 3\n")
    with pytest.raises(UsageError, match="asks nothing"):
        gates_of(tmp_path, '[[gate]]\nmin_top1 = 3\n[[gate]]\nmodel = "x"\n')
    with pytest.raises(UsageError, match="asks nothing"):
        gates_of(tmp_path, "")
    with pytest.raises(UsageError, match="a number is needed"):
        gates_of(tmp_path, '[[gate]]\nmin_top1 = "88"\n')
    with pytest.raises(InputMissingError):
        read_gates(tmp_path / "none.toml")


def test_a_baseline_without_figures_is_no_proof(made, tmp_path):
    earlier = without(made, "latency", "accuracy")
    (tmp_path / "earlier.json").write_text(earlier.to_json())
    gates = gates_of(tmp_path, '[baseline]\nfile = "earlier.json"\n')
    found = judge_gates(gates, made)
    assert len(found) == len(made.candidates) and not any(one.kept for one in found)
    assert all("neither latency nor top-1" in one.line for one in found)
