"""A picture judged with its mirrored copies: one graph, one answer for all, the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from kinds import grid, inverted, resnet
from onnx import numpy_helper
from test_poolings import error, labels_of, pixels_of, run_of, taught

from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import UsageError
from edge_fgr.model import Model, open_model
from edge_fgr.saliency import explain
from edge_fgr_export.graph import from_network
from edge_fgr_export.graph_card import graph_card, graph_lines
from edge_fgr_export.half import to_half
from edge_fgr_export.metadata import stamp
from edge_fgr_export.mirrors import mirrored, mirrors_of, unmirrored
from edge_fgr_export.quantise import Settings, groups_of, kernels_of, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.rehead import rehead
from edge_fgr_export.same_bits import check_same_bits, faults_of
from edge_fgr_export.targets import TARGETS
from edge_fgr_export.trial import run_graph
from edge_fgr_train.network import Network
from edge_fgr_train.qat import fine_tune
from edge_fgr_train.recipe import change_recipe, load_recipe
from edge_fgr_train.settings import Model as Kind

SIZE = 64
KINDS = [("mean", 4), ("mean", 2), ("gem", 4), ("levels", 2)]


@dataclass
class Made:
    network: Network
    graphs: dict[str, onnx.ModelProto]
    paths: dict[str, Path]

    def open(self, which: str, threads: int = 1) -> Model:
        return open_model(self.paths[which], device="cpu", threads=threads)


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    done: dict[tuple[str, int], Made] = {}

    def get(pool: str = "mean", count: int = 4) -> Made:
        if (pool, count) not in done:
            torch.manual_seed(0)
            classes = len({photo.stem.rpartition("_")[0] for photo in photos})
            body = inverted() if pool == "levels" else resnet()
            network = Network(body, classes, Kind(pool=pool, mirrors=count, dropout=0.0))
            network = taught(network.to(memory_format=torch.channels_last), photos)
            fp32, geometry = from_network(network, SIZE), Geometry(size=SIZE)
            groups = groups_of(fp32)
            seen = collect(fp32, groups, photos, geometry, kernels_of(fp32))
            one = {"fp32": fp32, "int8": quantise(fp32, groups, seen), "fp16": to_half(fp32)}
            graphs = {name: mirrored(model, count) for name, model in one.items()}
            paths, folder = {}, tmp_path_factory.mktemp(pool)
            for name, model in graphs.items():
                paths[name] = folder / f"{name}.onnx"
                contract = Contract("mirrored", 1, labels_of(network), geometry, target=name)
                paths[name].write_bytes(stamp(model, contract))
            done[pool, count] = Made(network, graphs, paths)
        return done[pool, count]

    return get


@pytest.mark.parametrize(("pool", "count"), KINDS)
def test_the_graph_says_what_the_network_says(pool, count, made, photos):
    it, pixels = made(pool, count), pixels_of(photos)
    with torch.inference_mode():
        expected = it.network(torch.from_numpy(pixels))
        alone = it.network.single()(torch.from_numpy(pixels)).logits
    assert (expected.logits - alone).abs().mean() > 0.1  # or there is nothing to see
    model = it.open("fp32")
    found = model.outputs(pixels, "logits", "embedding", "features")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=3e-4)
    int8, fp16 = (it.open(name).run(pixels) for name in ("int8", "fp16"))
    assert (found[0].argmax(1) == int8.argmax(1)).mean() >= 0.95
    deep = pool == "levels"  # 52 untrained convolutions in a row (test_poolings)
    assert error(int8, found[0]) < (0.55 if deep else 0.15)
    assert error(fp16, found[0]) < (0.04 if deep else 0.02)


@pytest.mark.parametrize(
    ("pool", "axes", "count"),
    [
        ("mean", (2,), 4),
        ("mean", (1,), 4),
        ("mean", (1, 2), 4),
        ("mean", (2,), 2),
        ("levels", (2,), 2),
    ],
)
def test_a_mirrored_picture_has_the_very_same_answer(pool, axes, count, made, photos):
    pixels = pixels_of(photos)
    one = made(pool, count).open("int8")
    turned = np.ascontiguousarray(np.flip(pixels, axes))
    if pool == "mean":
        np.testing.assert_array_equal(one.run(pixels), one.run(turned))
    else:  # the maps of all levels are mirrored to the bit; floats summed over them are not
        np.testing.assert_allclose(one.run(pixels), one.run(turned), atol=1e-4)
    if count == 2:
        upside_down = np.ascontiguousarray(pixels[:, ::-1])
        assert (one.run(pixels) != one.run(upside_down)).any()


def test_the_same_bits_are_promised_and_kept(made, photos):
    it, pixels = made(), pixels_of(photos)
    assert faults_of(it.graphs["int8"]) == []
    check_same_bits(it.graphs["int8"])
    whole = it.open("int8").run(pixels)
    np.testing.assert_array_equal(whole, it.open("int8", threads=2).run(pixels))
    one = it.open("int8")
    np.testing.assert_array_equal(whole, np.concatenate([one.run(p[None]) for p in pixels]))
    line = "embedding: GeM pooling is float: its sums depend on the processor"
    assert faults_of(made("gem").graphs["int8"]) == [line]


@pytest.mark.parametrize(("pool", "count"), [("mean", 4), ("levels", 2)])
@pytest.mark.parametrize("which", ["fp32", "int8", "fp16"])
def test_taken_apart_it_is_the_graph_of_one_picture(which, pool, count, made):
    it = made(pool, count)
    alone = unmirrored(it.graphs[which])
    assert alone is not None and mirrors_of(alone) == 1 and unmirrored(alone) is None
    assert mirrors_of(it.graphs[which]) == count
    again = mirrored(alone, count)
    assert again.SerializeToString() == it.graphs[which].SerializeToString()
    assert mirrored(alone, 1) is alone


@pytest.mark.parametrize("which", ["fp32", "int8", "fp16"])
def test_onnxruntime_finds_no_shape_false(which, made, photos, capfd):
    plain = onnxruntime.InferenceSession(made("levels", 2).paths[which])  # ours says less
    plain.run(["logits"], {"pixels": pixels_of(photos[:3])})
    assert "Shape mismatch" not in capfd.readouterr().err


def test_what_was_changed_is_not_taken_apart(made):
    broken = onnx.ModelProto()
    broken.CopyFrom(made().graphs["int8"])
    share = next(t for t in broken.graph.initializer if t.name == "mirrors/share")
    share.CopyFrom(numpy_helper.from_array(np.array(0.3, np.float32), share.name))
    assert unmirrored(broken) is None
    assert faults_of(broken)  # a mean that nobody knows is no promise


def test_the_card_says_how_many(made):
    card = graph_card(made().paths["int8"])
    assert card["mirrors"] == 4 and card["tiles"] == 1 and card["same_bits"]["promised"]
    assert not card["onnxruntime"]["fallbacks"] and not card["stray"]
    own = [row["operator"] for row in card["nodes"] if "mirrored" in row["reason"]]
    assert own == ["Add", "Add", "Add", "Mul"]
    text = graph_lines({"file": {"path": "a", "bytes": 1}, "target": "portable"} | card)
    assert "4 copies, judged together" in text


def test_maps_are_of_the_picture_as_it_stands(made, photos):
    """Evidence of a picture and of its mirrored copy are mirrored."""
    model = made().open("int8")
    for photo in photos[::8]:
        shown = explain(model, photo).map
        assert shown.values.mean() + shown.bias == pytest.approx(shown.total, abs=0.1)
    pixels = pixels_of(photos[:4])
    (seen,) = model.outputs(pixels, "features")
    (turned,) = model.outputs(np.ascontiguousarray(pixels[:, :, ::-1]), "features")
    np.testing.assert_array_equal(seen, turned[..., ::-1])


def test_a_new_head_is_of_all_copies(made, photos, tmp_path):
    it, pixels = made(), pixels_of(photos)
    head = it.network.head
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    other = rehead(onnx.load(it.paths["int8"]), -weight, -bias, l2=False)
    assert faults_of(other) == [] and mirrors_of(other) == 4
    path = tmp_path / "other.onnx"
    contract = Contract("other", 1, labels_of(it.network), Geometry(size=SIZE))
    path.write_bytes(stamp(other, contract))
    found = open_model(path, device="cpu").run(pixels)
    assert error(-found, it.open("int8").run(pixels)) < 0.05


@pytest.mark.parametrize("target", ["x86-vnni", "openvino", "tensorrt", "arm64"])
def test_other_targets_agree_too(target, made, photos):
    it, geometry = made(), Geometry(size=SIZE)
    alone = unmirrored(it.graphs["fp32"])
    groups = groups_of(alone, tied=TARGETS[target].tied)
    seen = collect(alone, groups, photos[::2], geometry, kernels_of(alone))
    int8 = quantise(alone, groups, seen, Settings(target=TARGETS[target]))
    found = run_graph(mirrored(int8, 4), photos, geometry)
    assert (it.open("fp32").run(pixels_of(photos)).argmax(1) == found.argmax(1)).mean() >= 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model.mirrors=3"], "mirrors must be 1, 2 or 4"),
        (["model.mirrors=2", "model.tiles=2"], "no form over tiles"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        change_recipe(load_recipe("default"), changes)


def test_a_backbone_without_a_map_is_refused():
    with pytest.raises(UsageError, match="mirrors needs a backbone that gives a map"):
        Network(grid(), 3, Kind(mirrors=2))


def test_fine_tuning_for_int8_refuses_copies(made, tmp_path):
    run_of(tmp_path, Kind(mirrors=4, dropout=0.0), made().network)
    with pytest.raises(UsageError, match="judges mirrored copies") as found:
        fine_tune(tmp_path, None, [], tmp_path / "int8", torch.device("cpu"))
    assert "\n" not in str(found.value)
