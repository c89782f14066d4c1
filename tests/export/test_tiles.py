"""One graph over the tiles of a picture: what the network says, on codes, wherever a thing lies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from kinds import IMAGENET, Mixed, resnet, settled

from edge_fgr import Classifier
from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import ContractError, ModelError, UsageError
from edge_fgr.head import HEAD_KEY, head_from_json
from edge_fgr.model import Model, open_model
from edge_fgr.saliency import explain
from edge_fgr_export import command as export_command
from edge_fgr_export.graph import from_network
from edge_fgr_export.graph_card import graph_card, graph_lines
from edge_fgr_export.half import to_half
from edge_fgr_export.metadata import stamp
from edge_fgr_export.parity import logits_of
from edge_fgr_export.quantise import groups_of, kernels_of, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.rehead import rehead
from edge_fgr_export.same_bits import check_same_bits, faults_of
from edge_fgr_export.tiles import Plan, tiled, tiles_of, untiled
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.batches import batches
from edge_fgr_train.command import run as train
from edge_fgr_train.command import run_qat
from edge_fgr_train.network import Network
from edge_fgr_train.settings import Model as Kind

TILE, TILES, CLASSES = 64, 2, 4
SIZE = TILE * TILES
KINDS = {
    "plain": (Kind(tiles=TILES, good="1", dropout=0.0), 1),
    "surest": (Kind(tiles=TILES, dropout=0.0), None),
    "angles": (Kind(tiles=TILES, good="1", l2=True, dropout=0.0), 1),
    "gem": (Kind(tiles=TILES, good="1", pool="gem", dropout=0.0), 1),
    "vector": (Kind(tiles=TILES, good="1", dropout=0.0), 1),
}


@dataclass
class Made:
    network: Network
    plan: Plan
    one: onnx.ModelProto
    int8: onnx.ModelProto
    paths: dict[str, Path]

    def open(self, which: str, threads: int = 1) -> Model:
        return open_model(self.paths[which], device="cpu", threads=threads)


@pytest.fixture(scope="module")
def pixels(photos):
    return np.concatenate(list(batches(photos, Geometry(size=SIZE))))


@pytest.fixture(scope="module")
def made(photos, pixels, tmp_path_factory):
    """Export each kind once, when it is first asked for."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            torch.manual_seed(0)
            kind, good = KINDS[name]
            body = Backbone(Mixed(), 40, *IMAGENET, "vector") if name == "vector" else resnet()
            network = Network(body, CLASSES, kind, good).to(memory_format=torch.channels_last)
            with torch.inference_mode():
                seen = settled(network, torch.from_numpy(pixels))
                seen = seen / seen.norm(dim=1, keepdim=True) if kind.l2 else seen
                weight = torch.randn(CLASSES, seen.shape[1])
                weight *= 3 / ((seen - seen.mean(0)) @ weight.T).std(0)[:, None]
                network.head.weight.copy_(weight)
                network.head.bias.copy_(-weight @ seen.mean(0))
            plan, geometry = Plan(network.tiles, network.good), Geometry(size=SIZE)
            one = from_network(network, SIZE)
            groups = groups_of(one)
            seen = collect(one, groups, photos, geometry, kernels_of(one), tiles=TILES)
            int8 = quantise(one, groups, seen)
            contract = Contract("tiles", 1, tuple((f"{i}",) for i in range(CLASSES)), geometry)
            folder, paths = tmp_path_factory.mktemp(name), {}
            for which, model in (("fp32", one), ("int8", int8), ("fp16", to_half(one))):
                paths[which] = folder / f"{which}.onnx"
                contract = replace(contract, target="portable" if which == "int8" else which)
                paths[which].write_bytes(stamp(tiled(model, plan), contract))
            known[name] = Made(network, plan, one, int8, paths)
        return known[name]

    return get


@pytest.mark.parametrize("name", KINDS)
def test_the_graph_says_what_the_network_says(name, made, pixels):
    it = made(name)
    with torch.inference_mode():
        wanted = [part.numpy() for part in it.network(torch.from_numpy(pixels))]
    names = ("logits", "embedding", "features")
    for found, expected in zip(it.open("fp32").outputs(pixels, *names), wanted, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3 * max(1.0, wanted[0].std()))
    half, int8 = (it.open(which).run(pixels) for which in ("fp16", "int8"))
    assert (half.argmax(1) == wanted[0].argmax(1)).mean() >= 0.95
    # What an untrained network says of near-ties, INT8 says otherwise.
    order = np.sort(wanted[0], 1)
    sure = order[:, -1] - order[:, -2] > 0.5 * wanted[0].std()
    assert (int8.argmax(1) == wanted[0].argmax(1))[sure].mean() >= 0.9 and sure.sum() >= 8
    assert len(set(wanted[0].argmax(1))) > 1


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_the_worst_tile(name, made, pixels):
    """Told from the graph of one tile alone."""
    it = made(name)
    path = it.paths["int8"].with_name("one.onnx")
    contract = it.open("int8").contract
    path.write_bytes(stamp(it.int8, replace(contract, geometry=Geometry(size=TILE))))
    one, whole = open_model(path, device="cpu"), it.open("int8")
    for picture in pixels[:8]:
        parts = [picture[r : r + TILE, c : c + TILE] for r in (0, TILE) for c in (0, TILE)]
        logits, embedding = one.outputs(np.stack(parts), "logits", "embedding")
        score = logits.max(1)
        if it.plan.good is not None:
            others = np.delete(logits, it.plan.good, 1)
            score = others.max(1) - logits[:, it.plan.good]
        found = whole.outputs(picture[None], "logits", "embedding", "features")
        worst = int(score.argmax())
        np.testing.assert_array_equal(found[0][0], logits[worst])
        np.testing.assert_array_equal(found[1][0], embedding[worst])


@pytest.mark.parametrize("name", ["plain", "surest", "angles", "vector"])
def test_the_same_bits_whatever_the_batch_and_the_threads(name, made, pixels):
    it = made(name)
    assert faults_of(onnx.load(it.paths["int8"])) == []
    check_same_bits(onnx.load(it.paths["int8"]))
    rows = it.open("int8").run(pixels[:8])
    other = it.open("int8", threads=2)
    np.testing.assert_array_equal(other.run(pixels[:8]), rows)
    np.testing.assert_array_equal(np.concatenate([other.run(p[None]) for p in pixels[:8]]), rows)


def test_a_float_pooling_ends_the_promise_as_without_tiles(made):
    model = onnx.load(made("gem").paths["int8"])
    assert faults_of(model) == ["embedding: GeM pooling is float: its sums depend on the processor"]
    check_same_bits(model)


def test_a_graph_that_decides_otherwise_promises_nothing(made):
    model = onnx.load(made("plain").paths["int8"])
    for node in model.graph.node:
        if node.name == "tiles/above_good":
            node.op_type = "Add"
    assert untiled(model) is None
    assert any("has no form with the same bits" in fault for fault in faults_of(model))


@pytest.mark.parametrize("name", KINDS)
def test_what_was_put_together_comes_apart(name, made):
    it = made(name)
    for model in (it.one, it.int8):
        whole = tiled(model, it.plan)
        apart = untiled(whole)
        assert apart is not None and apart.plan == it.plan and tiles_of(whole) == TILES
        wanted = {node.SerializeToString() for node in model.graph.node}
        for part in (apart.choosing, apart.deciding):
            assert {node.SerializeToString() for node in part.graph.node} == wanted
            onnx.checker.check_model(part, full_check=True)
        assert tiles_of(model) == 1 and untiled(model) is None and tiled(model, Plan()) is model


@pytest.mark.parametrize("which", ["fp32", "int8"])
def test_where_a_thing_lies_does_not_matter(which, made, pixels):
    """Only for INT8 to the bit; and the map points at its tile."""
    model, places = made("plain").open(which), [(0, 0), (0, TILE), (TILE, 0), (TILE, TILE)]
    gray = np.full((SIZE, SIZE, 3), 128, np.uint8)
    patches = [picture[:TILE, :TILE] for picture in pixels]
    base = model.run(gray[None])[0]
    patch = max(patches, key=lambda p: _badness(model.run(_with(gray, p, (0, 0))[None])[0]))
    assert _badness(model.run(_with(gray, patch, (0, 0))[None])[0]) > _badness(base)
    canvases = np.stack([_with(gray, patch, place) for place in places])
    rows = np.concatenate([model.run(canvas[None]) for canvas in canvases])
    assert (rows != base).any(1).all()
    if which == "int8":
        np.testing.assert_array_equal(rows, rows[[0] * 4])
    np.testing.assert_allclose(rows, rows[[0] * 4], atol=1e-3)
    for canvas, (top, left) in zip(canvases, places, strict=True):
        shown = explain(model, canvas, channels="rgb").map
        h, w = (side // TILES for side in shown.values.shape)
        part = np.s_[top // TILE * h :, left // TILE * w :]
        inside = shown.values[part][:h, :w]
        assert np.abs(inside).max() > 0
        assert np.abs(inside).sum() == pytest.approx(np.abs(shown.values).sum())
        assert shown.values.mean() + shown.bias == pytest.approx(shown.total, abs=0.15)


def _with(canvas: np.ndarray, patch: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    result = canvas.copy()
    result[place[0] : place[0] + TILE, place[1] : place[1] + TILE] = patch
    return result


def _badness(logits: np.ndarray) -> float:
    return float(np.delete(logits, 1).max() - logits[1])


def test_another_head_answers_and_the_tile_stays(made, pixels, tmp_path):
    it = made("plain")
    torch.manual_seed(1)
    weight, bias = torch.randn(7, 24).numpy(), torch.randn(7).numpy()
    model = rehead(onnx.load(it.paths["int8"]), weight, bias, l2=True)
    apart = untiled(model)
    assert apart is not None and apart.choosing.graph.output[0] != apart.deciding.graph.output[0]
    assert faults_of(model) == []
    path = tmp_path / "other.onnx"
    labels = tuple((f"{i}",) for i in range(7))
    path.write_bytes(stamp(model, replace(it.open("int8").contract, labels=labels)))
    opened = open_model(path, device="cpu")
    logits, embedding = opened.outputs(pixels, "logits", "embedding")
    np.testing.assert_array_equal(embedding, it.open("int8").outputs(pixels, "embedding")[0])
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    np.testing.assert_allclose(logits, unit @ weight.T + bias, atol=0.02)
    assert opened.head().tiles == TILES


def test_the_card_says_who_decides(made):
    card = graph_card(made("plain").paths["int8"])
    assert card["tiles"] == TILES**2 and not card["stray"] and card["same_bits"]["promised"]
    assert not card["onnxruntime"]["fallbacks"]
    assert card["onnxruntime"]["operators"]["QGemm"] == 2
    reason = "chooses the worst tile by its logits"
    found = {row["operator"] for row in card["nodes"] if row["reason"] == reason}
    assert found == {"Gather", "ReduceMax", "Sub", "ArgMax", "GatherND"}
    card |= {"file": {"path": "x.onnx", "bytes": 1}, "target": "portable"}
    assert "4, of which the worst decides" in graph_lines(card)


def test_the_head_says_how_many_tiles(made):
    text = made("plain").open("int8").session.get_modelmeta().custom_metadata_map[HEAD_KEY]
    raw = json.loads(text)
    assert (raw["schema"], raw["tiles"]) == (2, TILES)
    for wrong in ({"tiles": 1}, {"tiles": 9}, {"schema": 1}):
        with pytest.raises(ContractError, match="tiles in schema"):
            head_from_json(json.dumps(raw | wrong))


def test_from_photos_to_the_device(photos, tmp_path):
    """The whole way, and what tiles refuse on it."""
    data = tmp_path / "data"
    for photo in photos[:16]:
        place = data / photo.stem.rpartition("_")[0].rpartition("_")[2]
        place.mkdir(parents=True, exist_ok=True)
        (place / photo.name).write_bytes(photo.read_bytes())
    good = sorted(place.name for place in data.iterdir())[0]
    run = tmp_path / "run"
    changes = ["model.tiles=2", "geometry.size=64", "augment.size=64", "optimise.epochs=2"]
    changes += [f"model.good={good}", "model.pretrained=false", "model.backbone=teaching_cnn"]
    train(str(data), run, "default", changes, "cpu")
    assert (run / "report.html").exists()
    model = tmp_path / "model.onnx"
    export_command.run(run, model, None, export_command.Options(max_drop=100.0))
    clf = Classifier.load(model, device="cpu")
    assert clf(photos[0]).label
    assert tiles_of(onnx.load(model)) == 2 and faults_of(onnx.load(model)) == []
    with pytest.raises(ModelError, match="LiteRT has no form of tiles"):
        export_command.run(run, None, None, export_command.Options("litert"))
    with pytest.raises(UsageError, match="decides by tiles, which --qat does not compute"):
        run_qat(run, None, tmp_path / "qat", [], "cpu")
    with pytest.raises(UsageError, match=r"decides by tiles, .* give --model the \.onnx"):
        train(str(data), tmp_path / "chain", "chain", [], "cpu", str(run))
    with pytest.raises(UsageError, match=r"model\.tiles is for networks that are trained"):
        train(str(data), tmp_path / "chain", "chain", ["model.tiles=2"], "cpu")
    train(str(data), tmp_path / "chain", "chain", ["chain.c=[0.1]"], "cpu", str(model))
    other = tmp_path / "chain.onnx"
    export_command.run(tmp_path / "chain", other, None, export_command.Options(max_drop=100.0))
    opened = open_model(other, device="cpu")
    assert opened.head().tiles == 2 and faults_of(onnx.load(other)) == []
    assert logits_of(opened, photos[:2], opened.contract.geometry).shape[0] == 2
