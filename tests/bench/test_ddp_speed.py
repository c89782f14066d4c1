"""Several processes beside several threads: that both run and are counted, not how fast."""

from __future__ import annotations

import json

import pytest
from small_models import labelled_folder

from edge_fgr_bench.ddp_speed import Rates, main


def test_both_run_in_turn(photos, tmp_path, capsys):
    run = [str(labelled_folder(photos, tmp_path)), "--recipe", "teaching", "--steps", "3"]
    run += ["--rounds", "1", "--set", "optimise.batch=8", "--json"]
    assert main([*run, "--least", "1e9"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["several"][0] > 0 and found["one"][0] > 0 and found["ratio"] > 0


def test_what_cannot_be_meant_and_what_fails(tmp_path, capsys):
    assert main([str(tmp_path), "--ranks", "1"]) == 2
    assert "--ranks at least 2" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--rounds", "1"]) == 1
    assert "no such" in capsys.readouterr().err


@pytest.mark.parametrize(("several", "ratio"), [((1.0, 2.0, 9.0), 0.5), ((4.0,), 1.0)])
def test_the_ratio_is_that_of_the_medians(several, ratio):
    assert Rates(several, (4.0,)).ratio == ratio
