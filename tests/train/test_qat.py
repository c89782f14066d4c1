"""Fine-tuning for INT8: it computes what INT8 will compute, and ends as a run like any other."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn

from edge_fgr import image
from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import InputMissingError, ModelError, UsageError
from edge_fgr.model import open_model
from edge_fgr_export.command import run as export
from edge_fgr_export.command import stamp
from edge_fgr_export.graph import from_network
from edge_fgr_export.groups import groups_of, kernels_of, scales_of
from edge_fgr_export.quantise import quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.weights import quantise_weights, worst_pair
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.checkpoint import Run, load_network
from edge_fgr_train.command import run as train
from edge_fgr_train.command import run_qat
from edge_fgr_train.fake_quant import Code, Seen, codes_of, round_weights
from edge_fgr_train.int8 import PAIR_LIMIT
from edge_fgr_train.network import Network
from edge_fgr_train.recipe import Model
from edge_fgr_train.rounded import RoundedNetwork
from edge_fgr_train.teaching import TeachingCNN

SIZE = 32


def wide(tensor):
    """Distance from the mean over classes, as one number."""
    return np.linalg.norm(tensor - tensor.mean(1, keepdims=True))


@pytest.fixture
def small(photos):
    """The teaching CNN with the photos' statistics, and their pixels."""
    torch.manual_seed(0)
    module = TeachingCNN()
    backbone = Backbone(module, module.width(SIZE), (127.0,) * 3, (128.0,) * 3, "grid")
    network = Network(backbone, 5, Model(dropout=0.0)).to(memory_format=torch.channels_last)
    nn.init.normal_(network.head.weight, std=0.1)
    pixels = torch.from_numpy(np.stack([image.load(p, Geometry(size=SIZE)) for p in photos]))
    with torch.no_grad():
        network.train()(pixels)
    return network.eval(), pixels


def test_rounded_weights_are_on_the_grid_of_the_exporter():
    torch.manual_seed(0)
    for shape in ((16, 3, 5, 5), (24, 144, 1, 1), (3, 641)):
        weights = torch.randn(shape)
        rounded = round_weights(weights, pair_safe=True)
        values, scales = quantise_weights(rounded.numpy(), np.zeros(len(weights)), pair_safe=True)
        again = values * scales.reshape(-1, *[1] * (len(shape) - 1))
        assert worst_pair(values) <= PAIR_LIMIT
        np.testing.assert_allclose(again, rounded, atol=1e-5)
        assert (rounded - weights).norm() < 0.015 * weights.norm()


def test_gradients_pass_the_rounding():
    weights = torch.randn(4, 6, 3, 3, requires_grad=True)
    round_weights(weights, pair_safe=False).sum().backward()
    assert torch.equal(weights.grad, torch.ones_like(weights))


def test_ranges_are_those_of_the_exporter(small, photos):
    network, pixels = small
    rounded = RoundedNetwork(network, SIZE)
    rounded.observe(network, pixels.split(8))
    graph = from_network(network, SIZE)
    groups = groups_of(graph)
    geometry = Geometry(size=SIZE)
    exported = scales_of(graph, groups, collect(graph, groups, photos, geometry, []).ranges)
    wanted = [exported[group] for group in groups.values()]
    assert len(wanted) == len(rounded.codes) == 4
    for (scale, zero), code in zip(wanted, rounded.codes.values(), strict=True):
        assert code.scale == pytest.approx(float(scale), rel=0.15) and code.zero == int(zero)


def test_what_meets_shares_a_scale():
    seen = {name: Seen() for name in "abc"}
    for name, low, high in (("a", 0.0, 1.0), ("b", -2.0, 2.0), ("c", 0.0, 9.0)):
        seen[name].add(torch.linspace(low, high, 1000))
    codes = codes_of(seen, {"a": "b", "b": "b", "c": "c"})
    assert codes["a"].scale == codes["b"].scale < codes["c"].scale
    assert codes["a"].zero == 0 and codes["b"].zero in (127, 128)


def test_rounded_network_says_what_its_int8_graph_says(small, photos, tmp_path):
    """With weights that are settled and the exporter's scales: much closer than fp32 is."""
    network, pixels = small
    rounded = RoundedNetwork(network, SIZE)
    settled = rounded.settled(network)
    graph, geometry = from_network(settled, SIZE), Geometry(size=SIZE)
    groups = groups_of(graph)
    seen = collect(graph, groups, photos, geometry, kernels_of(graph))
    int8 = quantise(graph, groups, seen)
    contract = Contract("small", 1, tuple((f"{i}",) for i in range(5)), geometry)
    (tmp_path / "int8.onnx").write_bytes(stamp(int8, contract))
    scales = scales_of(graph, groups, seen.ranges)
    rounded.observe(settled, pixels.split(8))
    rounded.codes = {
        name: Code(float(scales[group][0]), int(scales[group][1]))
        for name, group in zip(rounded.codes, groups.values(), strict=True)
    }
    found = open_model(tmp_path / "int8.onnx", device="cpu").run(pixels.numpy())
    with torch.no_grad():
        fp32, said = settled(pixels).logits.numpy(), rounded(settled, pixels).logits.numpy()
    assert wide(said - found) < 0.5 * wide(fp32 - found)
    stored = {t.name: numpy_helper.to_array(t) for t in int8.graph.initializer}
    for tensor in graph.graph.initializer:
        if f"{tensor.name}_q" in stored:
            weights = numpy_helper.to_array(tensor)
            scale = stored[f"{tensor.name}_scale"].reshape(-1, *[1] * (weights.ndim - 1))
            np.testing.assert_allclose(stored[f"{tensor.name}_q"] * scale, weights, atol=1e-6)


def test_operators_without_integer_form_are_refused(small):
    network, _ = small
    network.backbone[2] = nn.SiLU()
    with pytest.raises(ModelError, match="no form of silu"):
        RoundedNetwork(network, SIZE)


CHANGES = ["optimise.epochs=20", "optimise.batch=4", "optimise.lr=1e-4"]


@pytest.fixture(scope="module")
def taught(tiny, tmp_path_factory):
    """Folder with a run of the teaching CNN, and one that learned from it to be INT8."""
    folder = tmp_path_factory.mktemp("taught")
    train(tiny / "data", folder / "run", "teaching", ["optimise.batch=4"], "cpu")
    run_qat(folder / "run", None, folder / "tuned", CHANGES, "cpu")
    return folder


def test_a_tuned_run_is_a_run(taught):
    tuned = taught / "tuned"
    names = {path.name for path in (taught / "run").iterdir()}
    assert {path.name for path in tuned.iterdir()} == names
    made, first = Run.read(tuned), Run.read(taught / "run")
    assert made.source == str((taught / "run").resolve()) and first.source == ""
    for field in ("data", "splits", "fit", "evaluate", "calibration"):
        assert getattr(made, field) == getattr(first, field)
    rows = [json.loads(line) for line in (tuned / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 20 and rows[-1]["loss"] < 0.05
    before, after = (load_network(taught / n)[0].state_dict() for n in ("run", "tuned"))
    for name, value in before.items():
        if "running" in name:
            torch.testing.assert_close(value, after[name], msg=name)


def test_a_tuned_run_is_exported(taught, tmp_path):
    export(taught / "tuned", tmp_path / "tuned.onnx", None)
    contract = open_model(tmp_path / "tuned.onnx", device="cpu").contract
    assert contract.target == "portable" and contract.confidence is not None
    first = json.loads((taught / "run" / "contract.json").read_text())
    assert contract.provenance.data == first["provenance"]["data"]


def test_an_efficientnet_is_tuned_and_exported(tiny, tmp_path):
    run_qat(tiny / "run", None, tmp_path / "run", ["optimise.epochs=1"], "cpu")
    export(tmp_path / "run", tmp_path / "model.onnx", None)


def test_resumed_fine_tuning_ends_with_the_same_weights(taught, tmp_path, monkeypatch):
    from edge_fgr_train import loop

    saved = loop.save_state

    def stop_after_one(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run_qat(taught / "run", None, tmp_path / "run", CHANGES, "cpu")
    monkeypatch.setattr(loop, "save_state", saved)
    with pytest.raises(UsageError, match="interrupted"):
        run_qat(tmp_path / "run", None, tmp_path / "next", [], "cpu")
    run_qat(taught / "run", None, tmp_path / "run", CHANGES, "cpu")
    whole, resumed = (
        load_file(f / "model.safetensors") for f in (taught / "tuned", tmp_path / "run")
    )
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.fit=[]", "only augment"),
        ("augment.size=96", "stays 64"),
        ("optimise.lr=0", "above 0"),
    ],
)
def test_changes_that_cannot_be_meant(tiny, tmp_path, change, said):
    with pytest.raises(UsageError, match=said):
        run_qat(tiny / "run", None, tmp_path / "new", [change], "cpu")


def test_runs_that_cannot_be_fine_tuned(tiny, tmp_path):
    with pytest.raises(InputMissingError, match="no run here"):
        run_qat(tmp_path, None, tmp_path / "new", [], "cpu")
    with pytest.raises(UsageError, match="name a new folder"):
        run_qat(tiny / "run", None, tiny / "run", [], "cpu")
    with pytest.raises(InputMissingError, match="where the run's data are"):
        run_qat(tiny / "run", str(tmp_path / "gone"), tmp_path / "new", [], "cpu")
    shutil.copytree(tiny / "run", tmp_path / "chain")
    path = tmp_path / "chain" / "run.json"
    made = json.loads(path.read_text())
    made["recipe"]["chain"] = {"head": "svm"}
    path.write_text(json.dumps(made))
    with pytest.raises(UsageError, match="a chain"):
        run_qat(tmp_path / "chain", None, tmp_path / "new", [], "cpu")
    assert not (tmp_path / "new").exists()


def test_options_that_exclude_each_other(cli, tiny, tmp_path):
    result = cli("train", "--qat", tiny / "run", "--head", "svm", "-o", tmp_path / "new")
    assert result.returncode == 2 and "leave --recipe" in result.stderr
    result = cli("train", "-o", tmp_path / "new")
    assert result.returncode == 2 and "DATA is missing" in result.stderr
