"""The deletion check blurs what it says, and finds more where the map points."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.image import load
from edge_fgr.model import embedded, open_model
from edge_fgr_bench.evidence import blurred, chosen_places, fall
from edge_fgr_export.command import stamp


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = onnx.load(embedded()["grocery81"])
    (text,) = (prop.value for prop in model.metadata_props if prop.key == METADATA_KEY)
    path = tmp_path_factory.mktemp("model") / "headed.onnx"
    path.write_bytes(stamp(model, Contract.from_json(text)))
    return path


def test_only_the_chosen_places_are_blurred(path, photos):
    pixels = load(photos[0], open_model(path, device="cpu").contract.geometry)
    places = np.zeros((8, 8), np.bool_)
    places[:4] = True
    size = len(pixels)
    changed = np.abs(blurred(pixels, places).astype(int) - pixels).mean((1, 2))
    assert changed[: size * 3 // 8].mean() > 5
    assert changed[size * 5 // 8 :].max() == 0


def test_places_are_those_of_the_highest_scores():
    scores = np.arange(16.0).reshape(4, 4)
    assert (chosen_places(scores, 0.25) == (scores >= 12)).all()
    assert chosen_places(scores, 0.001).sum() == 1


def test_evidence_is_missed_more_than_chance(path, photos):
    model = open_model(path, device="cpu")
    random = np.random.default_rng(0)
    found = [fall(model, photo, 0.25, random) for photo in photos[::2]]
    mean = {name: np.mean([each[name] for each in found], axis=0) for name in found[0]}
    assert mean["evidence"][0] < mean["random"][0] < mean["least evidence"][0]
    assert mean["evidence"][1] > mean["random"][1] > mean["least evidence"][1]


def test_command(path, tiny):
    command = [sys.executable, "-m", "edge_fgr_bench.evidence", path, tiny / "data", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(result.stdout)
    assert document["images"] == 6
    assert document["figures"][0]["places"] == "evidence"


def test_a_missing_model_is_one_line(tmp_path):
    command = [sys.executable, "-m", "edge_fgr_bench.evidence", tmp_path / "no.onnx", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 66
    assert len(result.stderr.splitlines()) == 1
