"""Networks of other kinds: the same answers from torch, fp32 and INT8, on image files."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime
import pytest
from kinds import HALF, IMAGENET, Exported, Mixed, export, fitted, grid, resnet
from torch import nn

from edge_fgr.contract import Contract, Geometry
from edge_fgr.errors import ModelError
from edge_fgr.model import open_model
from edge_fgr_export.command import stamp
from edge_fgr_export.graph import from_network
from edge_fgr_export.groups import scales_of
from edge_fgr_export.nodes import constants
from edge_fgr_export.parity import logits_of
from edge_fgr_export.quantise import groups_of
from edge_fgr_export.weights import worst_pair
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.batches import batches
from edge_fgr_train.evaluate import logits_of as torch_logits_of
from edge_fgr_train.int8 import PAIR_LIMIT


@pytest.fixture(scope="module")
def kinds(photos, tmp_path_factory):
    """Export each kind once, when it is first asked for."""
    makers = {
        "grid": lambda at: export(grid(), photos, 32, at),
        "grid-l2": lambda at: export(grid(), photos, 32, at, l2=True),
        "resnet": lambda at: export(resnet(), photos, 64, at),
        "mixed": lambda at: export(Backbone(Mixed(), 40, *HALF, "vector"), photos, 64, at),
    }
    made: dict[str, Exported] = {}

    def get(name: str) -> Exported:
        if name not in made:
            made[name] = makers[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


KINDS = ("grid", "grid-l2", "resnet", "mixed")


@pytest.mark.parametrize("kind", KINDS)
def test_three_ways_agree_on_files(kind, kinds, photos):
    made = kinds(kind)
    geometry = made.contract.geometry
    expected = torch_logits_of(made.network, photos, geometry)
    fp32 = logits_of(made.open("fp32"), photos, geometry)
    int8 = logits_of(made.open("int8"), photos, geometry)
    np.testing.assert_allclose(fp32, expected, atol=1e-4)
    assert (fp32.argmax(1) == int8.argmax(1)).mean() >= 0.95
    error = np.sqrt(np.square(int8 - fp32).mean()) / fp32.std()
    # Errors add up with depth, and untrained layers do nothing against it; trained ones: 0.02.
    assert error < {"grid": 0.02, "grid-l2": 0.02, "resnet": 0.25, "mixed": 0.1}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_batch_or_threads(kind, kinds, photos):
    made = kinds(kind)
    pixels = np.concatenate(list(batches(photos[:8], made.contract.geometry)))
    found = set()
    for threads in (1, 2):
        model = made.open("int8", threads)
        single = np.concatenate([model.run(row[None]) for row in pixels])
        found |= {single.tobytes(), model.run(pixels).tobytes()}
    assert len(found) == 1


ENTRY = {"Cast": 1, "Sub": 1, "Div": 1, "QuantizeLinear": 1}
SHAPE = {"Transpose", "Flatten", "Unsqueeze"}


@pytest.mark.parametrize(
    ("kind", "integer", "left"),
    [
        ("grid", {"QLinearConv": 2, "NhwcMaxPool": 2, "QGemm": 1}, {}),
        (
            "grid-l2",
            {"QLinearConv": 2, "NhwcMaxPool": 2, "QGemm": 1},
            {"Cast": 2, "ReduceSumSquare": 1, "Sqrt": 1, "Mul": 1, "Max": 1, "Div": 1, "Add": 1},
        ),
        (
            "resnet",
            {"QLinearConv": 15, "NhwcMaxPool": 1, "QLinearAdd": 5, "QLinearGlobalAveragePool": 1,
             "QGemm": 1},
            ENTRY,
        ),
        (
            "mixed",
            {"QLinearConv": 5, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
            {"DequantizeLinear": 3, "QuantizeLinear": 1},  # a ReLU that is not alone in reading
        ),
    ],
)  # fmt: skip
def test_only_the_edges_are_float(kind, integer, left, kinds, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(
        kinds(kind).paths["int8"], options, providers=["CPUExecutionProvider"]
    )
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    found = collections.Counter(node.op_type for node in nodes if node.op_type not in SHAPE)
    # Two readings in float are for whoever asks for embedding and features.
    assert found == {"DequantizeLinear": 2, **integer, **left}


def test_tied_tensors_share_a_scale_and_unsigned_ones_keep_all_codes(kinds):
    made = kinds("resnet")
    groups, values = groups_of(made.fp32), constants(made.int8)
    scales = scales_of(made.fp32, groups, made.seen.ranges)
    nodes = made.fp32.graph.node
    relus = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Relu"}
    adds = [node for node in nodes if node.op_type == "Add"]
    assert len(adds) == 5
    for node in adds:
        met = [groups[name] for name in (*node.input, relus[node.output[0]])]
        assert len({scales[group][0] for group in met}) == 1
        assert scales[met[-1]][1] == 0 and len({scales[group][1] for group in met}) == 2
    for group, (scale, zero) in scales.items():
        assert values[f"{group}_scale"] == scale and values[f"{group}_zero"] == zero
        low, high = made.seen.ranges[group]  # what was chosen still fits
        assert -int(zero) * scale <= low + scale and (255 - int(zero)) * scale >= high - scale


class Sums(nn.Module):
    """Sums of the channels, all below zero, and the largest of each neighbourhood."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.ones_(self.conv.weight)
        nn.init.constant_(self.conv.bias, -4.0)

    def forward(self, x):
        return nn.functional.max_pool2d(self.conv(x), 3, stride=2, padding=1)


def test_pooling_pads_with_the_lowest_and_half_levels_are_taken_back(photos, tmp_path):
    made = export(Backbone(Sums(), 2, *HALF), photos, 32, tmp_path)
    pixels = np.concatenate(list(batches(photos, made.contract.geometry)))
    fp32, int8 = (made.open(name).outputs(pixels, "features")[0] for name in ("fp32", "int8"))
    assert fp32.max() < -0.9  # padding with 0, or with the code 0 of a scale from 0, would win
    step = constants(made.int8)["features_scale"]
    inside = fp32 > -254 * step
    assert np.abs(fp32 - int8)[inside].max() < 0.6 * step
    # Three channels, each half a level too high: without the correction this would be the mean.
    uncorrected = 3 * 0.5 / 127.5
    assert abs(float((int8 - fp32)[inside].mean())) < 0.1 * uncorrected


def test_pixels_of_one_mean_enter_as_they_are(kinds):
    for kind, kept in (("grid", 1), ("resnet", 4)):
        nodes = kinds(kind).int8.graph.node
        first = next(i for i, node in enumerate(nodes) if node.op_type == "QuantizeLinear")
        before = [n.op_type for n in nodes[:first] if n.op_type not in ("DequantizeLinear", "Conv")]
        assert before == ["Transpose", "Cast", "Sub", "Div"][:kept]


def test_features_of_a_vector_are_its_embedding(kinds, photos):
    made = kinds("mixed")
    pixels = np.concatenate(list(batches(photos[:4], made.contract.geometry)))
    for which in ("fp32", "int8"):
        embedding, features = made.open(which).outputs(pixels, "embedding", "features")
        assert features.shape == (4, 40, 1, 1) and embedding.any()
        np.testing.assert_array_equal(features[:, :, 0, 0], embedding)
    # Adaptive pooling of a channels-last tensor comes as a Gather by a computed index.
    assert not {"Gather", "Shape", "Reshape"} & {n.op_type for n in made.fp32.graph.node}


def test_convolutions_in_groups_are_free_of_pair_saturation(kinds):
    made = kinds("mixed")
    stored = constants(made.int8)
    for name in ("grouped", "wider"):
        values = stored[f"backbone.{name}.0.weight_q"]
        assert values.shape[1] in (1, 4) and worst_pair(values) <= PAIR_LIMIT


def test_unknown_operators_are_named(photos, tmp_path):
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.Hardswish())
    geometry = Geometry(size=32)
    network = fitted(Backbone(body, 8, *IMAGENET), photos, geometry, l2=False)
    fp32 = from_network(network, 32)
    contract = Contract("kind", 1, tuple((f"{i}",) for i in range(16)), geometry)
    (tmp_path / "fp32.onnx").write_bytes(stamp(fp32, contract))
    logits = logits_of(open_model(tmp_path / "fp32.onnx", device="cpu"), photos, geometry)
    np.testing.assert_allclose(logits, torch_logits_of(network, photos, geometry), atol=1e-4)
    with pytest.raises(ModelError, match=r"of HardSwish, Mul, Sigmoid here .*EfficientNet-Lite"):
        groups_of(fp32)
