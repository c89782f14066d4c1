"""``.tflite`` files: the integers and the answers of the INT8 ONNX graph, on image files."""

from __future__ import annotations

import collections
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from kinds import HALF, Exported, Mixed, export, grid, resnet

from edge_fgr.errors import ContractError, InputMissingError, MissingExtraError, ModelError
from edge_fgr_export.command import Options, run, stamp
from edge_fgr_export.litert import Tflite, open_tflite, write_litert
from edge_fgr_export.nodes import constants
from edge_fgr_export.parity import logits_of
from edge_fgr_export.rehead import rehead
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.batches import batches


@dataclass
class Pair:
    made: Exported
    int8: onnx.ModelProto
    path: Path

    def open(self) -> Tflite:
        return open_tflite(self.path)

    def file(self):
        from ai_edge_litert.tools import flatbuffer_utils

        return flatbuffer_utils.read_model(str(self.path))


def pair(made: Exported, folder: Path, int8: onnx.ModelProto | None = None) -> Pair:
    int8 = int8 or made.int8
    made.paths["int8"].write_bytes(stamp(int8, made.contract))
    path = folder / "model.tflite"
    path.write_bytes(write_litert(int8, made.contract))
    return Pair(made, int8, path)


@pytest.fixture(scope="module")
def pairs(photos, tmp_path_factory):
    """Convert each kind once, when it is first asked for."""
    pytest.importorskip("ai_edge_litert", reason="pip install 'edge-fgr[litert]'")
    pytest.importorskip("litert_converter", reason="no converter for this machine")

    def chained(folder: Path) -> Pair:
        made = export(grid(), photos, 32, folder)
        head = made.network.head
        weight, bias = (tensor.detach().numpy() for tensor in (head.weight, head.bias))
        return pair(made, folder, rehead(made.int8, weight, bias, l2=True))

    mixed = Backbone(Mixed(), 40, *HALF, "vector")
    makers = {
        "grid": lambda at: pair(export(grid(), photos, 32, at), at),
        "grid-chain": chained,
        "resnet": lambda at: pair(export(resnet(), photos, 64, at), at),
        "mixed": lambda at: pair(export(mixed, photos, 64, at), at),
    }
    made: dict[str, Pair] = {}

    def get(name: str) -> Pair:
        if name not in made:
            made[name] = makers[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


KINDS = ("grid", "grid-chain", "resnet", "mixed")


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_onnx_file(kind, pairs, photos):
    found = pairs(kind)
    geometry = found.made.contract.geometry
    expected = logits_of(found.made.open("int8"), photos, geometry)
    model = found.open()
    logits = np.concatenate([model.run(pixels) for pixels in batches(photos, geometry)])
    assert logits.dtype == np.float32 and logits.shape == expected.shape
    assert np.array_equal(logits.argmax(1), expected.argmax(1))
    # All that is new is the rounding to int16. Other processors may round elsewhere too.
    assert np.abs(logits - expected).max() < 0.02 * expected.std()


@pytest.mark.parametrize(
    ("kind", "wanted", "tail"),
    [
        ("grid", {"CONV_2D": 2, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 1, "QUANTIZE": 2}, set()),
        (
            "grid-chain",
            {"CONV_2D": 2, "MAX_POOL_2D": 2, "FULLY_CONNECTED": 2, "QUANTIZE": 2},
            {"ADD", "DIV", "MAXIMUM", "MUL", "RESHAPE", "SQRT", "SUM"},
        ),
        (
            "resnet",
            {"EMBEDDING_LOOKUP": 1, "CONV_2D": 15, "MAX_POOL_2D": 1, "MEAN": 1, "QUANTIZE": 1},
            set(),
        ),
        (
            "mixed",
            {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "RELU": 1, "MEAN": 1, "ADD": 1},
            set(),
        ),
    ],
)
def test_only_what_follows_the_last_product_is_float(kind, wanted, tail, pairs):
    from ai_edge_litert import schema_py_generated as schema

    from edge_fgr_export.litert_file import float_operators, operators

    model = pairs(kind).file()
    graph, floats = model.subgraphs[0], set()
    counts: collections.Counter[str] = collections.Counter()
    for name, operator in operators(model):
        counts[name] += 1
        places = [i for i in (*operator.inputs, *operator.outputs) if i >= 0]
        if schema.TensorType.FLOAT32 in {graph.tensors[i].type for i in places}:
            floats.add(name)
    assert float_operators(model) == []
    assert floats - {"DEQUANTIZE"} == tail
    assert {name: counts[name] for name in wanted} == wanted


@pytest.mark.parametrize("kind", ["mixed", "resnet"])
def test_weights_and_biases_are_the_same_integers(kind, pairs):
    found = pairs(kind)
    values, expected = constants(found.int8), collections.Counter()
    for node in found.int8.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = values[f"{node.input[1]}_q"]
            depthwise = weight.ndim == 4 and weight.shape[1] == 1
            order = {True: (1, 2, 3, 0), False: (0, 2, 3, 1)}[depthwise]
            stored = weight.transpose(order) if weight.ndim == 4 else weight
            expected[stored.tobytes()] += 1
            expected[values[f"{node.input[2]}_q"].tobytes()] += 1
    from edge_fgr_export.litert_file import operators

    model = found.file()
    tensors, stored = model.subgraphs[0].tensors, collections.Counter()
    for name, operator in operators(model):
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            for i in operator.inputs[1:3]:
                stored[bytes(model.buffers[tensors[i].buffer].data)] += 1
    assert stored == expected


def test_contract_digest_and_equal_bytes(pairs):
    found = pairs("grid")
    content, model = found.path.read_bytes(), found.open()
    assert model.contract.target == "litert"
    assert model.contract.labels == found.made.contract.labels
    assert model.digest == hashlib.sha256(content).hexdigest()
    assert write_litert(found.int8, found.made.contract) == content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_large_tensors_lie_at_multiples_of_16(pairs):
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(pairs("grid").path.read_bytes())
    buffers = [file.Buffers(i) for i in range(file.BuffersLength())]
    places = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert places and not any(place % 16 for place in places)


def test_what_is_no_model_of_ours_is_said(pairs, tmp_path):
    path, content = tmp_path / "x.tflite", pairs("grid").path.read_bytes()
    with pytest.raises(InputMissingError):
        open_tflite(path)
    for garbage in (b"", b"no model, only words", content[:-2000], content[:64]):
        path.write_bytes(garbage)
        with pytest.raises(ModelError, match=r"x\.tflite"):
            open_tflite(path)
    path.write_bytes(content.replace(b"edge_fgr", b"edge_xxx"))
    with pytest.raises(ContractError, match="no contract"):
        open_tflite(path)
    path.write_bytes(content.replace(b'"size":32', b'"size":31'))
    with pytest.raises(ContractError, match="31 x 31"):
        open_tflite(path)
    model = pairs("grid").open()
    with pytest.raises(ModelError, match="inference failed"):
        model.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_what_cannot_be_converted_is_said(pairs):
    made = pairs("mixed").made
    with pytest.raises(ModelError, match="fp32 twin"):
        write_litert(made.fp32, made.contract)
    strange = onnx.ModelProto()
    strange.CopyFrom(made.int8)
    next(node for node in strange.graph.node if node.op_type == "Relu").op_type = "Elu"
    with pytest.raises(ModelError, match="no form of Elu"):
        write_litert(strange, made.contract)


def test_without_the_extra_the_install_is_named(clf, tmp_path, monkeypatch):
    for name in ("ai_edge_litert.interpreter", "litert_torch"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "x.tflite"
    path.write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(MissingExtraError, match=r"edge-fgr\[litert\]"):
        open_tflite(path)
    with pytest.raises(MissingExtraError, match=r"edge-fgr\[litert\]"):
        write_litert(onnx.ModelProto(), clf.contract)


def test_export_writes_it_within_the_budget(tiny, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="pip install 'edge-fgr[litert]'")
    pytest.importorskip("litert_converter", reason="no converter for this machine")
    output = tmp_path / "tiny.tflite"
    run(tiny / "run", output, None, Options("litert", max_drop=40))
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.tflite", "tiny.fp32.onnx"}
    contract = open_tflite(output).contract
    assert contract.target == "litert" and contract.confidence is not None
    assert contract.provenance.metrics is not None and "calibration" in contract.provenance.metrics
