"""Our training loop beside a bare one: that both run and are counted rightly, not how fast."""

from __future__ import annotations

import json

import pytest
import torch
from small_models import labelled_folder

from edge_fgr_bench.train_speed import Rates, main, rates
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import load_recipe

SET = ("optimise.batch=8", "augment.mixup=0.2", "optimise.epochs=2")


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    return labelled_folder(photos, tmp_path_factory.mktemp("speed"))


def test_both_loops_run_in_turn(data, capsys):
    changes = [word for change in SET for word in ("--set", change)]
    run = [str(data), "--recipe", "teaching", *changes, "--steps", "3", "--device", "cpu"]
    assert main([*run, "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ours"]) == len(found["bare"]) == 2
    assert min(*found["ours"], *found["bare"], found["ratio"]) > 0
    assert main([*run, "--rounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ratio ")
    assert main([*run, "--steps", "2"]) == 2
    assert "--steps must be at least 3" in capsys.readouterr().err


def test_images_are_used_again_where_there_are_too_few(data):
    recipe = load_recipe("teaching", (*SET, "optimise.batch=16"))
    found = rates(split_of(data, recipe), recipe, torch.device("cpu"), 3, 1)  # 48 of 32 images
    assert found.ours[0] > 0 and found.bare[0] > 0


def test_the_ratio_is_that_of_the_medians():
    assert Rates((90.0, 100.0, 500.0), (50.0, 200.0, 210.0)).ratio == 0.5
