"""The embedded model says what it said when it was released, to the bit."""

from __future__ import annotations

import json

import numpy as np

from golden.make_golden import HERE, golden_values, logits_of

GOLDEN = json.loads((HERE / "golden.json").read_text())


def test_the_program_repeats_the_golden_values(photos):
    """Pixels, INT8 logits (to the bit), labels and probabilities: all of ``golden.json``."""
    assert golden_values(photos) == GOLDEN


def test_int8_agrees_with_fp32(photos):
    fp32 = np.load(HERE / "fp32_logits.npy")
    int8 = logits_of(None, photos)
    assert fp32.shape == int8.shape == (32, 81)
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 31 / 32
    assert np.abs(fp32 - int8).max() < 0.25 * fp32.std() * 4
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] > 0.995


def test_most_golden_labels_are_right(photos):
    right = [
        "_".join(GOLDEN["photos"][photo.name]["label"]) == photo.stem.rpartition("_")[0]
        for photo in photos
    ]
    assert sum(right) >= 26
