"""Logits to verdicts: unknown, sets of labels, coarser names."""

from __future__ import annotations

import numpy as np
import pytest

from edge_fgr import image
from edge_fgr.decision import back_off, conformal_set, probabilities, unknown_score
from edge_fgr.model import open_model

LABELS = (("Fruit", "Apple", "Gala"), ("Fruit", "Apple", "Granny"), ("Fruit", "Kiwi"), ("Veg",))


def test_unknown_score_is_the_lead_over_the_mean():
    logits = np.array([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -4.0, -4.0]], np.float32)
    assert unknown_score(logits).tolist() == [2.0, 0.0, 2.0]
    assert unknown_score(logits[0]).shape == ()
    assert unknown_score(logits + 8).tolist() == [2.0, 0.0, 2.0]  # as the softmax, it sees no shift


def test_unknown_score_has_the_same_bits_alone_and_in_a_batch(photos):
    model = open_model(device="cpu")
    pixels = np.stack([image.load(photo, model.contract.geometry) for photo in photos[:6]])
    logits = model.run(pixels)
    alone = [float(unknown_score(row)) for row in logits]
    assert unknown_score(logits).tolist() == alone
    assert unknown_score(np.asfortranarray(logits)).tolist() == alone
    assert unknown_score(logits[:, ::-1]).tolist() == alone  # rounded once: no order of summing


def test_an_empty_picture_is_less_familiar_than_photos(photos):
    model = open_model(device="cpu")
    size = model.contract.geometry.size
    pixels = np.stack([image.load(photo, model.contract.geometry) for photo in photos[::4]])
    plain = np.full((1, size, size, 3), 128, np.uint8)
    assert unknown_score(model.run(plain))[0] < unknown_score(model.run(pixels)).min()


def test_conformal_set_grows_with_the_quantile():
    values = np.array([0.1, 0.6, 0.25, 0.05])
    sets = [conformal_set(values, quantile) for quantile in (0.0, 0.4, 0.75, 0.9, 1.0)]
    assert sets == [[1], [1], [1, 2], [1, 2, 0], [1, 2, 0, 3]]


def test_conformal_set_holds_the_best_class_and_is_exact_at_the_edge():
    values = probabilities(np.array([0.3, 0.1, -2.0], np.float32), 0.37)
    assert conformal_set(values, 0.0) == [0]
    for i in range(3):
        assert i in conformal_set(values, float(1 - values[i]))


@pytest.mark.parametrize(
    ("values", "thresholds", "answer"),
    [
        ((0.9, 0.05, 0.03, 0.02), (0.5, 0.5, 0.5), (("Fruit", "Apple", "Gala"), 0.9)),
        ((0.45, 0.45, 0.05, 0.05), (0.5, 0.5, 0.5), (("Fruit", "Apple"), 0.9)),
        ((0.45, 0.45, 0.05, 0.05), (0.5, 0.95, 0.5), (("Fruit",), 0.95)),
        ((0.45, 0.45, 0.05, 0.05), (0.99, 0.95, 0.5), ((), 1.0)),
        ((0.9, 0.05, 0.03, 0.02), (0.5, 0.5, None), (("Fruit", "Apple"), 0.95)),
        ((0.9, 0.05, 0.03, 0.02), (None, None, 0.95), ((), 1.0)),
        ((0.1, 0.1, 0.7, 0.1), (0.5, 0.5, 0.5), (("Fruit", "Kiwi"), 0.7)),  # shorter paths
        ((0.1, 0.1, 0.1, 0.7), (0.5, 0.5, 0.5), (("Veg",), 0.7)),
        ((0.25, 0.25, 0.25, 0.25), (0.0, 0.0, 0.0), (("Fruit", "Apple", "Gala"), 0.25)),
    ],
)
def test_back_off(values, thresholds, answer):
    label, probability = back_off(np.array(values), LABELS, thresholds)
    assert label == answer[0] and probability == pytest.approx(answer[1])


def test_flat_labels_back_off_to_nothing():
    labels = (("a",), ("b",))
    assert back_off(np.array([0.4, 0.6]), labels, (0.55,)) == (("b",), 0.6)
    assert back_off(np.array([0.5, 0.5]), labels, (0.55,)) == ((), 1.0)
