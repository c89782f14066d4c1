"""What INT8 must keep before it gets a name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_fgr.errors import ModelError
from edge_fgr_export.parity import check_int8, check_twin, compare
from edge_fgr_train.linear import LinearHead

OUT = Path("x.onnx")


def logits(answers, classes=4):
    return np.eye(classes, dtype=np.float32)[answers]


TRUTH = np.arange(400) % 4


def wrong(*places):
    answers = TRUTH.copy()
    answers[list(places)] = (answers[list(places)] + 1) % 4
    return logits(answers)


def test_chance_of_a_loss():
    """Exact one-sided McNemar: of ten changed images all lost, one in 1024."""
    assert compare(logits(TRUTH), wrong(*range(10)), TRUTH).chance == pytest.approx(2**-10)
    assert compare(wrong(*range(10)), logits(TRUTH), TRUTH).chance == 1
    even = compare(wrong(*range(10)), wrong(*range(10, 20)), TRUTH)
    assert even.chance == pytest.approx(0.588, abs=1e-3)


def test_a_network_must_agree():
    assert check_int8(OUT, logits(TRUTH), wrong(*range(20)), TRUTH)["agreement"] == 0.95
    with pytest.raises(ModelError, match="agrees with fp32 on only"):
        check_int8(OUT, logits(TRUTH), wrong(*range(21)), TRUTH)


def test_near_ties_of_a_chain_may_flip_both_ways():
    fp32, int8 = wrong(*range(30)), wrong(*range(30, 60))
    figures = check_int8(OUT, fp32, int8, TRUTH, exact=int8)
    assert figures["agreement"] == pytest.approx(0.85)
    assert figures["head_agreement"] == 1


def test_a_loss_that_may_be_chance_is_said(capsys):
    fp32, int8 = wrong(*range(4)), wrong(*range(4, 14))
    check_int8(OUT, fp32, int8, TRUTH, exact=int8)
    assert "warning: INT8 is right on 1.5 points fewer of these 400" in capsys.readouterr().err
    check_int8(OUT, int8, fp32, TRUTH, exact=fp32)
    assert "warning" not in capsys.readouterr().err


def test_a_chain_must_not_lose():
    with pytest.raises(ModelError, match=r"INT8 is right on 97\.5% of the images, fp32 on 100\.0%"):
        check_int8(OUT, logits(TRUTH), wrong(*range(10)), TRUTH, exact=wrong(*range(10)))
    with pytest.raises(ModelError, match="agrees with fp32 on only"):
        check_int8(
            OUT, wrong(*range(50)), wrong(*range(50, 100)), TRUTH, exact=wrong(*range(50, 100))
        )


def test_a_chain_must_repeat_its_classifier():
    with pytest.raises(ModelError, match=r"repeats its classifier on only 90\.0%"):
        check_int8(OUT, logits(TRUTH), logits(TRUTH), TRUTH, exact=wrong(*range(40)))


def test_a_twin_must_give_the_same_logits():
    network = logits(TRUTH)
    assert check_twin(OUT, network, network + np.float32(5e-4), TRUTH) == 1
    with pytest.raises(ModelError, match=r"differs from the network by 0\.002"):
        check_twin(OUT, network, network + np.float32(2e-3), TRUTH)


def test_the_float_head():
    weight, bias = np.eye(2, dtype=np.float32), np.array([0, 1], np.float32)
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(LinearHead(weight, bias, l2=False)(rows), [[3, 5], [0, 1]])
    np.testing.assert_allclose(LinearHead(weight, bias, l2=True)(rows), [[0.6, 1.8], [0, 1]])
