"""Other poolings and heads of angles: INT8 says what fp32 says, integer up to the features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from kinds import grid, inverted, resnet, settled
from torch import nn

from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import ContractError, ModelError, UsageError
from edge_fgr.model import Model, open_model
from edge_fgr.saliency import explain
from edge_fgr_export.equalise import chains_of
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.graph import from_network
from edge_fgr_export.graph_card import graph_card
from edge_fgr_export.half import to_half
from edge_fgr_export.heads import head_of
from edge_fgr_export.litert_program import Program
from edge_fgr_export.metadata import stamp
from edge_fgr_export.quantise import Settings, groups_of, kernels_of, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.same_bits import check_same_bits, faults_of
from edge_fgr_export.targets import TARGETS
from edge_fgr_train.batches import batches
from edge_fgr_train.checkpoint import Run, load_network, save_network
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.qat import fine_tune
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.settings import Model as Kind

SIZE = 64
FLOAT = ("gem", "bilinear", "levels")
POOLS = ("mean", *FLOAT)
LEVEL = "Abs Mul Mul GlobalAveragePool Add Pow ReduceL2 Clip Div"


def pixels_of(photos: list[Path], size: int = SIZE) -> np.ndarray:
    return np.concatenate(list(batches(photos, Geometry(size=size))))


def taught(network: Network, photos: list[Path], size: int = SIZE) -> Network:
    """Give BatchNorms the photos' statistics, and each class the direction of its photos."""
    names = [photo.stem.rpartition("_")[0] for photo in photos]
    places = torch.tensor([sorted(set(names)).index(name) for name in names])
    pixels = torch.from_numpy(pixels_of(photos, size))
    with torch.inference_mode():
        seen = settled(network, pixels)
        centred = seen - seen.mean(0)
        weight = torch.stack(
            [centred[places == place].mean(0) for place in range(int(places.max()) + 1)]
        )
        weight = nn.functional.normalize(weight)
        weight *= 4 / (centred @ weight.T).std()
        network.head.weight.copy_(weight)
        if network.head.bias.requires_grad:  # a linear head, which sees plain embeddings
            network.head.bias.copy_(-weight @ seen.mean(0))
    return network


def labels_of(network: Network) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{i}",) for i in range(network.head.out_features))


@dataclass
class Pooled:
    network: Network
    fp32: onnx.ModelProto
    int8: onnx.ModelProto
    paths: dict[str, Path]

    def open(self, which: str) -> Model:
        return open_model(self.paths[which], device="cpu")


def exported(network: Network, photos: list[Path], folder: Path, size: int = SIZE) -> Pooled:
    fp32, geometry = from_network(network, size), Geometry(size=size)
    groups = groups_of(fp32)
    int8 = quantise(fp32, groups, collect(fp32, groups, photos, geometry, kernels_of(fp32)))
    contract = Contract("pooled", 1, labels_of(network), geometry)
    paths = {}
    for name, model in (("fp32", fp32), ("int8", int8), ("fp16", to_half(fp32))):
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(stamp(model, replace(contract, target=name)))
    return Pooled(network, fp32, int8, paths)


@pytest.fixture(scope="module")
def pooled(photos, tmp_path_factory):
    """Export each pooling once, when it is first asked for."""
    made: dict[str, Pooled] = {}

    def get(pool: str) -> Pooled:
        if pool not in made:
            torch.manual_seed(0)
            kind = Kind(pool=pool, rank=32, dropout=0.0)
            classes = len({photo.stem.rpartition("_")[0] for photo in photos})
            body = inverted() if pool == "levels" else resnet()
            network = Network(body, classes, kind).to(memory_format=torch.channels_last)
            network = taught(network, photos)
            made[pool] = exported(network, photos, tmp_path_factory.mktemp(pool))
        return made[pool]

    return get


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - wanted).mean()) / wanted.std())


@pytest.mark.parametrize("pool", POOLS)
def test_answers_agree_with_fp32(pool, pooled, photos):
    made, pixels = pooled(pool), pixels_of(photos)
    with torch.inference_mode():
        expected = made.network(torch.from_numpy(pixels)).logits.numpy()
    fp32, int8, fp16 = (made.open(name).run(pixels) for name in ("fp32", "int8", "fp16"))
    np.testing.assert_allclose(fp32, expected, atol=2e-4)
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.95
    # Most of it are the features' own errors: an untrained backbone does nothing against them.
    # 52 convolutions in a row have more: 0.49 with the mean.
    deep = pool == "levels"
    assert error(int8, fp32) < (0.55 if deep else 0.15)
    assert error(fp16, fp32) < (0.04 if deep else 0.02)


@pytest.mark.parametrize("pool", ["gem", "bilinear"])
def test_a_float_pooling_loses_next_to_nothing_of_the_features(pool, pooled, photos):
    made = pooled(pool)
    embedding, features = made.open("int8").outputs(pixels_of(photos), "embedding", "features")
    with torch.inference_mode():
        wanted = made.network.pool(torch.from_numpy(features)).numpy()
    assert error(embedding, wanted) < 0.05


def test_levels_keep_their_lengths_in_int8(pooled, photos):
    made = pooled("levels")
    ends = np.cumsum(made.network.pool.widths)[:-1]
    (embedding,) = made.open("int8").outputs(pixels_of(photos), "embedding")
    lengths = [np.linalg.norm(part, axis=1) for part in np.split(embedding, ends, axis=1)]
    np.testing.assert_allclose(np.stack(lengths, 1), [[3, 3, 1, 1]] * len(photos), rtol=0.03)


@pytest.mark.parametrize(
    ("pool", "convs", "adds", "left"),
    [
        ("gem", 15, 5, "Clip Mul Mul GlobalAveragePool Add Pow"),
        ("bilinear", 17, 5, "Mul GlobalAveragePool Sign Abs Add Sqrt Sub Mul"),
        ("levels", 52, 10, 4 * f"{LEVEL} " + "Mul Mul Concat"),
    ],
)
def test_integer_kernels_up_to_the_pooling(pool, convs, adds, left, pooled):
    card = graph_card(pooled(pool).paths["int8"])
    runs = card["onnxruntime"]
    assert runs["operators"]["QLinearConv"] == convs and runs["operators"]["QLinearAdd"] == adds
    assert runs["operators"]["QGemm"] == 1 and not runs["fallbacks"] and not card["stray"]
    kind = float_pooling(pooled(pool).int8.graph).kind
    reason = f"{kind} pooling has no integer form"
    found = [row["operator"] for row in card["nodes"] if row["reason"] == reason]
    assert sorted(found) == sorted(left.split())
    rest = {row["reason"] for row in card["nodes"] if row["form"] == "float"} - {reason}
    assert rest == {"pixels are normalised value by value, and rounded once"}


@pytest.mark.parametrize("pool", FLOAT)
def test_the_same_bits_are_not_promised_and_a_line_says_so(pool, pooled):
    made = pooled(pool)
    kind = float_pooling(made.int8.graph).kind
    line = f"embedding: {kind} pooling is float: its sums depend on the processor"
    assert faults_of(made.int8) == [line]
    check_same_bits(made.int8)  # portable all the same: up to the features
    assert faults_of(made.fp32) == ["an fp32 graph: sums of floats depend on the processor"]


def test_a_float_pooling_excuses_no_other_fault(pooled):
    broken = onnx.ModelProto()
    broken.CopyFrom(pooled("gem").int8)
    conv = next(node for node in broken.graph.node if node.op_type == "Conv")
    (reader,) = (node for node in broken.graph.node if node.input[0] == conv.output[0])
    reader.op_type = "DequantizeLinear"
    with pytest.raises(ModelError, match="cannot promise the same bits"):
        check_same_bits(broken)


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_float_pooling_reads_is_not_equalised(pool, pooled):
    """Nobody would divide its channels again."""
    made = pooled(pool)
    pooling = float_pooling(made.fp32.graph)
    assert (pooling is None) == (pool == "mean")
    assert not {name for node in (pooling.nodes if pooling else ()) for name in node.input} & {
        *chains_of(made.fp32)
    }


@pytest.mark.parametrize(
    ("pool", "target"), [("gem", "tensorrt"), ("bilinear", "x86-vnni"), ("levels", "openvino")]
)
def test_other_targets_agree_too(pool, target, pooled, photos, tmp_path):
    made, geometry = pooled(pool), Geometry(size=SIZE)
    groups = groups_of(made.fp32, tied=TARGETS[target].tied)
    seen = collect(made.fp32, groups, photos[::2], geometry, kernels_of(made.fp32))
    int8 = quantise(made.fp32, groups, seen, Settings(target=TARGETS[target]))
    path = tmp_path / "other.onnx"
    path.write_bytes(stamp(int8, Contract("pooled", 1, labels_of(made.network), geometry)))
    pixels = pixels_of(photos)
    fp32, found = made.open("fp32").run(pixels), open_model(path, device="cpu").run(pixels)
    assert (fp32.argmax(1) == found.argmax(1)).mean() >= 0.9


@pytest.mark.parametrize("which", ["fp32", "int8"])
@pytest.mark.parametrize("pool", POOLS)
def test_evidence_maps_are_of_means_alone(pool, which, pooled, photos):
    model = pooled(pool).open(which)
    for photo in photos[::8]:
        if pool == "mean":
            shown = explain(model, photo).map
            assert shown.values.mean() + shown.bias == pytest.approx(shown.total, abs=0.1)
            continue
        with pytest.raises(ContractError, match=rf"{which}\.onnx: has no evidence maps") as found:
            explain(model, photo)
        assert "\n" not in str(found.value)


def test_empty_gray_has_no_map_either(pooled):
    """All positions are alike there, so that the generalised mean is nearest to the mean."""
    for value in (0, 128, 255):
        with pytest.raises(ContractError, match="has no evidence maps"):
            explain(pooled("gem").open("int8"), np.full((90, 90), value, np.uint8))


def test_embeddings_of_all_places_have_no_map(photos, tmp_path):
    torch.manual_seed(0)
    made = exported(taught(Network(grid(), 16, Kind()), photos, 32), photos, tmp_path, 32)
    with pytest.raises(ContractError, match="has no evidence maps"):
        explain(made.open("int8"), photos[0])


@pytest.mark.parametrize("pool", FLOAT)
def test_litert_refuses_in_one_line(pool, pooled):
    with pytest.raises(ModelError, match=r"LiteRT has no form of (Mul|Abs) here; use the \.onnx"):
        Program(pooled(pool).int8)


def run_of(folder: Path, kind: Kind, network: Network) -> None:
    recipe = Recipe(name="angles", model=kind, geometry=Geometry(size=32))
    Run(recipe, "", (), (), (), ()).write(folder)
    contract = Contract("angles", 1, labels_of(network), recipe.geometry)
    save_network(folder, network.finished(), contract)


@pytest.mark.parametrize("head", ["cosine", "arcface"])
def test_a_head_of_angles_keeps_its_answers_on_the_way_to_int8(head, photos, tmp_path):
    torch.manual_seed(0)
    kind = Kind(backbone="teaching_cnn", head=head, pretrained=False, dropout=0.0, scale=20.0)
    network = taught(build_network(kind, 16, pretrained=False, size=32), photos, 32)
    pixels = pixels_of(photos, 32)
    with torch.inference_mode():
        trained = network(torch.from_numpy(pixels)).logits.numpy()
    run_of(tmp_path, kind, network)
    loaded, _, _ = load_network(tmp_path)
    made = exported(loaded, photos, tmp_path, 32)
    assert head_of(made.fp32.graph).l2 and head_of(made.int8.graph).l2
    fp32, int8 = (made.open(name).run(pixels) for name in ("fp32", "int8"))
    np.testing.assert_allclose(fp32, trained, atol=1e-4)
    assert np.abs(trained).max() <= 20 and trained.std() > 1
    assert (int8.argmax(1) == trained.argmax(1)).mean() >= 0.95
    assert error(int8, trained) < 0.03
    assert faults_of(made.int8) == []  # length and division go value by value


def test_fine_tuning_for_int8_refuses_float_poolings(pooled, tmp_path):
    kind = Kind(pool="gem", dropout=0.0)
    run_of(tmp_path, kind, pooled("gem").network)
    with pytest.raises(UsageError, match="gem pooling stays float") as found:
        fine_tune(tmp_path, None, [], tmp_path / "int8", torch.device("cpu"))
    assert "\n" not in str(found.value)
