"""What a model must keep before it gets a name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_fgr.errors import ModelError
from edge_fgr_export.parity import check_candidate, check_twin, line_of
from edge_fgr_export.trial import relative_error, within
from edge_fgr_export.verify import verdict_of
from edge_fgr_train.linear import LinearHead

OUT = Path("x.onnx")


def logits(answers, classes=4):
    return np.eye(classes, dtype=np.float32)[answers]


TRUTH = np.arange(400) % 4


def wrong(*places):
    answers = TRUTH.copy()
    answers[list(places)] = (answers[list(places)] + 1) % 4
    return logits(answers)


def check(fp32, int8, exact=None, max_drop=0.3):
    return check_candidate(OUT, "int8", fp32, int8, TRUTH, exact, max_drop=max_drop)


def test_a_network_must_agree():
    assert check(wrong(*range(10)), wrong(*range(10, 20)))["agreement"] == 0.95
    with pytest.raises(ModelError, match="agrees with fp32 on only"):
        check(wrong(*range(10)), wrong(*range(10, 21)))


@pytest.mark.parametrize("exact", [True, False])
def test_the_budget(exact):
    def both(lost, max_drop):
        int8 = wrong(*range(lost))
        return check(logits(TRUTH), int8, int8 if exact else None, max_drop)

    assert both(1, 0.3)["int8_top1"] == pytest.approx(399 / 400)
    with pytest.raises(ModelError, match=r"right on 99\.5% of 400 images, fp32 on 100\.0%, a fall"):
        both(2, 0.3)
    assert both(4, 1.0)["p"] == pytest.approx(0.125)
    with pytest.raises(ModelError, match=r"--max-drop 1;"):
        both(5, 1.0)


def test_one_image_is_no_fall_where_few_are_judged():
    truth = [0] * 20
    fp32, int8 = logits(truth), logits([1] + [0] * 19)
    assert within(verdict_of(fp32, int8, truth), 0.0)
    assert not within(verdict_of(fp32, logits([1, 1] + [0] * 18), truth), 0.3)
    assert within(verdict_of(int8, fp32, truth), 0.0)


def test_near_ties_of_a_chain_may_flip_both_ways():
    fp32, int8 = wrong(*range(30)), wrong(*range(30, 60))
    figures = check(fp32, int8, int8)
    assert figures["agreement"] == pytest.approx(0.85)
    assert figures["head_agreement"] == 1
    with pytest.raises(ModelError, match="agrees with fp32 on only"):
        check(wrong(*range(50)), wrong(*range(50, 100)), wrong(*range(50, 100)))


def test_a_chain_must_repeat_its_classifier():
    with pytest.raises(ModelError, match=r"repeats its classifier on only 90\.0%"):
        check(logits(TRUTH), logits(TRUTH), wrong(*range(40)))


def test_a_twin_must_give_the_same_logits():
    network = logits(TRUTH)
    assert check_twin(OUT, network, network + np.float32(5e-4), TRUTH) == 1
    with pytest.raises(ModelError, match=r"differs from the network by 0\.002"):
        check_twin(OUT, network, network + np.float32(2e-3), TRUTH)


def test_the_line_for_people():
    line = line_of(verdict_of(logits(TRUTH), wrong(0), TRUTH), "fp32", "int8")
    assert "fp32 against int8 on 400 images: labels agree 99.75%, top-1 100.00% and 99.75%" in line


def test_what_all_classes_share_is_no_error():
    wanted = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert relative_error(wanted + 3, wanted) == pytest.approx(0, abs=1e-6)
    assert relative_error(wanted * 1.1, wanted) == pytest.approx(0.1, abs=1e-6)


def test_the_float_head():
    weight, bias = np.eye(2, dtype=np.float32), np.array([0, 1], np.float32)
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(LinearHead(weight, bias, l2=False)(rows), [[3, 5], [0, 1]])
    np.testing.assert_allclose(LinearHead(weight, bias, l2=True)(rows), [[0.6, 1.8], [0, 1]])
