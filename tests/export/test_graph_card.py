"""What ``edge-fgr inspect --graph`` counts is what stands in the file, and what is run."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from kinds import HALF, IMAGENET, Mixed, export, grid
from onnx import helper, numpy_helper
from torch import nn

from edge_fgr.contract import Contract, Geometry
from edge_fgr.model import embedded
from edge_fgr_export.command import stamp
from edge_fgr_export.graph_card import graph_card, graph_lines, operators_run
from edge_fgr_export.reading import Reading
from edge_fgr_train.backbones import Backbone


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """A small network with a head on embeddings of length 1, fp32 and INT8."""
    return export(grid(), photos, 32, tmp_path_factory.mktemp("grid"), l2=True)


@pytest.fixture(scope="module")
def shipped():
    return graph_card(embedded()["grocery81"])


def forms(facts, form):
    return [(row["operator"], row["reason"]) for row in facts["nodes"] if row["form"] == form]


def test_the_shipped_model_is_integer_up_to_its_logits(shipped):
    behind = {reason for _, reason in forms(shipped, "float")}
    assert behind == {"logits stay float"}  # the division by the embedding's length
    assert forms(shipped, "integer").count(("Conv", "")) == 64
    assert ("Gemm", "logits stay float") in forms(shipped, "integer")
    assert shipped["stray"] == []
    assert shipped["same_bits"] == {"promised": True, "faults": []}
    assert shipped["opset"] == {"ai.onnx": 18} and shipped["ir_version"] == 10
    runs = shipped["onnxruntime"]
    assert runs["operators"]["QLinearConv"] == 64 and runs["operators"]["QGemm"] == 1
    assert runs["fallbacks"] == {}


def test_sizes_and_counts_are_those_of_the_file(shipped):
    path = embedded()["grocery81"]
    graph = onnx.load(path).graph
    assert sum(shipped["operators"].values()) == len(graph.node)
    assert 0.85 * path.stat().st_size < sum(shipped["constant_bytes"].values())
    assert sum(shipped["constant_bytes"].values()) < path.stat().st_size


def test_an_fp32_model_says_so(made):
    facts = graph_card(made.paths["fp32"])
    assert {reason for _, reason in forms(facts, "float")} == {"fp32 model"}
    assert not forms(facts, "integer") and facts["onnxruntime"]["fallbacks"] == {}
    assert not facts["same_bits"]["promised"]


def test_what_follows_the_last_product_stays_float(made):
    facts = graph_card(made.paths["int8"])
    float_ones = forms(facts, "float")
    assert {reason for _, reason in float_ones} == {"logits stay float"}
    assert {"Sqrt", "Div", "Add"} <= {operator for operator, _ in float_ones}
    assert facts["stray"] == [] and facts["onnxruntime"]["fallbacks"] == {}


def test_value_by_value_between_codes(photos, tmp_path):
    made = export(Backbone(Mixed(), 40, *HALF, "vector"), photos[:8], 64, tmp_path)
    facts = graph_card(made.paths["int8"])
    assert forms(facts, "float") == [("Relu", "value by value between codes")]
    assert facts["stray"] == []
    assert facts["onnxruntime"]["operators"]["QuantizeLinear"] == 1  # it runs in float


def test_a_float_layer_and_a_strange_operator_are_named(made, tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(made.int8)
    graph = Reading(model)
    conv = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    rounding = graph.readers[conv.output[0]][0]
    model.graph.node.insert(
        list(model.graph.node).index(rounding),
        helper.make_node("Sigmoid", [conv.output[0]], ["bent"]),
    )
    rounding.input[0] = "bent"
    path = tmp_path / "wide.onnx"
    contract = Contract("wide", 1, made.contract.labels, made.contract.geometry)
    path.write_bytes(stamp(model, contract))
    facts = graph_card(path)
    assert ("Conv", "computed in float") in forms(facts, "float")
    assert ("Sigmoid", "an operator without integer form") in forms(facts, "float")
    assert not facts["same_bits"]["promised"]
    shown = graph_lines({"file": {"path": "wide.onnx", "bytes": 1}, "target": "portable", **facts})
    assert "not promised" in shown and "float: an operator without integer form: Sigmoid" in shown


def test_stray_pairs_are_found(made):
    model = onnx.ModelProto()
    model.CopyFrom(made.int8)
    graph = Reading(model)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    rounding = graph.readers[conv.output[0]][0]
    scale = list(rounding.input[1:])
    at = list(model.graph.node).index(rounding)
    for node in (
        helper.make_node("DequantizeLinear", ["early_q", *scale], ["early"]),
        helper.make_node("QuantizeLinear", [conv.output[0], *scale], ["early_q"]),
    ):
        model.graph.node.insert(at, node)
    rounding.input[0] = "early"
    model.graph.node.append(
        helper.make_node("DequantizeLinear", [rounding.output[0], *scale], ["unread"])
    )
    assert Reading(model).stray() == [
        "early: codes that are rounded to codes again",
        "unread: nobody reads it",
    ]


def test_a_pair_between_float_operators_is_stray():
    """Rounding that no integer operator has a use for."""
    scale = ["scale", "zero"]
    nodes = [
        helper.make_node("Sigmoid", ["pixels"], ["bent"]),
        helper.make_node("QuantizeLinear", ["bent", *scale], ["bent_q"]),
        helper.make_node("DequantizeLinear", ["bent_q", *scale], ["read"]),
        helper.make_node("Sigmoid", ["read"], ["logits"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4])]
        for name in ("pixels", "logits")
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.uint8(3), "zero"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "pair", *ends, constants))
    assert Reading(model).stray() == ["bent_q: rounded between two operators that are float"]


class Curved(nn.Module):
    """An operator that only fp32 runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(nn.functional.silu(self.conv(x)), 1).flatten(1)


def test_any_fp32_model_of_ours_is_read(tmp_path):
    from edge_fgr_export.graph import from_network
    from edge_fgr_train.network import Network
    from edge_fgr_train.recipe import Model

    network = Network(Backbone(Curved(), 8, *IMAGENET, "vector"), 3, Model())
    path = tmp_path / "curved.onnx"
    contract = Contract("curved", 1, (("a",), ("b",), ("c",)), Geometry(size=32))
    path.write_bytes(stamp(from_network(network, 32), contract))
    facts = graph_card(path)
    assert {reason for _, reason in forms(facts, "float")} == {"fp32 model"}
    assert operators_run(path)["Conv"] == 1


def test_command(cli, made, photos):
    result = cli("inspect", "--graph")
    assert result.returncode == 0 and result.stderr == ""
    assert "QLinearConv" in result.stdout and "same bits    promised" in result.stdout
    facts = json.loads(cli("inspect", made.paths["int8"], "--graph", "--format", "json").stdout)
    assert facts["schema_version"] == 1 and facts["target"] == "fp32"
    assert facts["onnxruntime"]["operators"]["QLinearConv"] == 2
    assert cli("inspect", "--graph", photos[0]).returncode == 78
    assert cli("inspect", "--graph", "absent.onnx").returncode == 66


def test_without_the_extra_the_command_says_what_to_install():
    code = (
        "import sys; sys.modules['onnx'] = None; sys.argv = ['edge-fgr', 'inspect', '--graph']\n"
        "from edge_fgr.start import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 69 and run.stdout == ""
    assert run.stderr.startswith("edge-fgr: edge-fgr inspect: the package onnx is missing")
    assert run.stderr.rstrip().endswith("pip install 'edge-fgr[export]'")
