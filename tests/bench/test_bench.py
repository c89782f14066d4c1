"""The measurements measure what they say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edge_fgr.model import embedded, open_model
from edge_fgr_bench.accuracy import judge, judge_all
from edge_fgr_bench.bits import same_bits
from edge_fgr_bench.cold import cold_start, timed
from edge_fgr_train.dataset import Sample
from edge_fgr_train.evaluate import wilson


def sample_of(photo):
    return Sample(photo.name, photo, tuple(photo.stem.split("_")[:-1]))


def test_accuracy_counts_what_the_classifier_says(clf, photos):
    samples = [sample_of(photo) for photo in photos]
    judged = judge(open_model(device="cpu"), samples)
    said = [clf(photo).label == sample.label for photo, sample in zip(photos, samples, strict=True)]
    assert judged.fine.tolist() == said
    assert judged.coarse.sum() >= judged.fine.sum() - 1


def test_figures_of_splits_are_pooled(tiny):
    model = open_model(device="cpu")
    rows = judge_all({"int8": model, "fp32": model}, tiny / "data", ("train", "val"))
    assert set(rows) == {"train", "val", "train+val"}
    assert rows["train+val"]["images"] == 18
    assert rows["val"]["agreement"] == 1 and rows["val"]["drop"] == 0


def test_wilson_interval():
    low, high = wilson(90, 100)
    assert (low, high) == (pytest.approx(0.8256, abs=1e-3), pytest.approx(0.9448, abs=1e-3))


def test_bits(photos):
    assert same_bits(embedded()["grocery81"], photos[:8])["identical"] == 16


def test_processes_are_timed_whole(photos, tmp_path):
    wall, memory = timed(
        [sys.executable, "-c", "import time; x = bytearray(60 << 20); time.sleep(.3)"]
    )
    assert wall > 0.3 and memory > 60 << 10
    with pytest.raises(subprocess.CalledProcessError):
        timed([sys.executable, "-c", "raise SystemExit(3)"])
    bare = tmp_path / "bare.py"
    bare.write_text("import numpy")
    figures = cold_start(embedded()["grocery81"], photos[0], bare, 1)
    assert figures["wall_ms"] > 0 and figures["memory_ratio"] > 1


def test_the_command_ends_with_one_line_of_json():
    result = subprocess.run(
        [sys.executable, "-m", "edge_fgr_bench", "--only", "bits"],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["figures"]["bits"]["identical"] == document["figures"]["bits"]["comparisons"]
