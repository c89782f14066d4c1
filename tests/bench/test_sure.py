"""Figures of certainty and of unknown images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edge_fgr.model import embedded
from edge_fgr_bench.sure import calibration_error, sure
from edge_fgr_bench.sure import main as sure_main
from edge_fgr_bench.unknown import far
from edge_fgr_bench.unknown import main as unknown_main
from edge_fgr_export.command import Options, run
from edge_fgr_train.dataset import scan
from edge_fgr_train.reliability import brier


def test_figures_that_can_be_told_by_hand():
    values = np.array([[0.7, 0.3], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8]])
    targets = np.array([0, 1, 1, 1])
    # Bin of 0.7: half right. Bin of 0.8: all right.
    assert calibration_error(values, targets) == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert brier(values, targets) == pytest.approx((0.18 + 0.98 + 0.08 + 0.08) / 4)


def test_sure_says_what_the_classifier_says(tiny, capsys):
    path = embedded()["grocery81"]
    figures = sure(path, scan(tiny / "data", ("train",)))
    assert figures["images"] == 12 and 0.95 <= figures["coverage"] <= 1
    assert figures["mean_set"] >= 1 and figures["said_right"] > 0.8
    assert figures["said"] + round(12 * figures["known_called_unknown"]) == 12
    held = tiny / "held.txt"
    assert (
        sure_main([str(path), str(tiny / "data"), "--split", "train", "--without", str(held)]) == 0
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 9
    assert sure_main([str(path), str(tiny / "data"), "--coverage", "0.5"]) == 2
    assert "fitted for 0.8" in capsys.readouterr().err


def test_far_compares_scores_on_two_halves(tiny, photos, tmp_path, capsys):
    run(tiny / "run", tmp_path / "tiny.onnx", None, Options(target="fp32"))
    (tmp_path / "strangers").mkdir()
    for photo in photos[8:14]:
        shutil.copy(photo, tmp_path / "strangers")
    arguments = (tiny / "data", tmp_path / "tiny.onnx", tmp_path / "strangers")
    even, odd = far(*arguments, "val", ("train",))
    assert set(even) == set(odd) and "whitened cosine" in even
    assert all(0 <= area <= 1 for area in (*even.values(), *odd.values()))
    assert unknown_main(["far", *map(str, arguments)]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["areas"]["softmax"] == [even["softmax"], odd["softmax"]]
    assert unknown_main(["near", str(tiny / "data"), str(embedded()["grocery81"])]) == 1
    assert "another draw" in capsys.readouterr().err
