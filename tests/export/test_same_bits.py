"""The proof of the same bits: it holds for what we export, and names each way to break it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from kinds import HALF, Mixed, export, grid, resnet
from onnx import helper, numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr.model import embedded
from edge_fgr_export.nodes import constants, producers
from edge_fgr_export.rehead import rehead
from edge_fgr_export.same_bits import check_same_bits, faults_of
from edge_fgr_train.backbones import Backbone

DENSE = "backbone.blocks.1.0.conv_pw.weight"
DEPTHWISE = "backbone.blocks.1.0.conv_dw.weight"


@pytest.fixture(scope="module")
def shipped():
    return onnx.load(embedded()["grocery81"])


@pytest.fixture(scope="module")
def pooled(photos, tmp_path_factory):
    """A small network with MaxPool and a head on embeddings of length 1."""
    return export(grid(), photos, 32, tmp_path_factory.mktemp("grid"), l2=True).int8


@pytest.fixture
def model(shipped):
    copy = onnx.ModelProto()
    copy.CopyFrom(shipped)
    return copy


def change(model: onnx.ModelProto, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put another value in the place of a constant."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    value = how(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def set_at(place: object, *values: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(array: np.ndarray) -> np.ndarray:
        array[place] = values if len(values) > 1 else values[0]
        return array

    return how


def first(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def test_the_shipped_model_is_proven(shipped):
    assert faults_of(shipped) == []
    check_same_bits(shipped)


def test_a_new_head_is_proven(shipped):
    width = constants(shipped)["head.weight_q"].shape[1]
    weight = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
    for l2 in (False, True):
        assert faults_of(rehead(shipped, weight, weight[:, 0], l2=l2)) == []


def test_other_kinds_are_proven_and_fp32_is_not(pooled, photos, tmp_path):
    assert faults_of(pooled) == []
    for body in (resnet(), Backbone(Mixed(), 40, *HALF, "vector")):
        made = export(body, photos[:8], 64, tmp_path)
        assert faults_of(made.int8) == []
        assert faults_of(made.fp32) == ["an fp32 graph: sums of floats depend on the processor"]


CONSTANTS = {
    "pair": (f"{DENSE}_q", set_at((3, slice(4, 6), 0, 0), 100, 29), "adds up to 129"),
    "pair below": (f"{DENSE}_q", set_at((3, slice(4, 6), 0, 0), -100, -29), "adds up to 129"),
    "pair of the head": ("head.weight_q", set_at((0, slice(0, 2)), 127, 2), "adds up to 129"),
    "lowest": (f"{DEPTHWISE}_q", set_at((0, 0, 0, 0), -128), "a weight is -128"),
    "zero": (f"{DENSE}_zero", set_at(0, 1), "weights are int8 around 1"),
    "type": (f"{DENSE}_q", lambda a: a.view(np.uint8), "weights are uint8"),
    "bias scale": (f"{DENSE}_bias_scale", lambda a: np.nextafter(a, a.dtype.type(9)), "the bias"),
    "bias zero": (f"{DENSE}_bias_zero", set_at(0, 1), "no constant int32 around 0"),
    "overflow": (f"{DENSE}_bias_q", set_at(0, 2**31 - 1), "overflow int32"),
    "denormal": (f"{DENSE}_scale", set_at(0, 1e-40), "no normal positive number"),
    "two scales": ("hardtanh_1_scale", lambda a: np.stack([a, a]), "more than one scale"),
}


@pytest.mark.parametrize("way", CONSTANTS)
def test_a_constant_that_breaks_it_is_named(way, model):
    name, how, fault = CONSTANTS[way]
    change(model, name, how)
    found = faults_of(model)
    assert any(fault in line for line in found), found
    place = name.rpartition("_")[0].removesuffix("_bias")
    assert any(line.startswith(place) for line in found)
    with pytest.raises(ModelError, match="cannot promise the same bits"):
        check_same_bits(model)


def test_a_pair_is_two_neighbours_in_the_order_of_the_kernel(model):
    for row in (0, 2, 4):  # second and third weight are in two pairs
        change(model, f"{DENSE}_q", set_at((row, slice(0, 4), 0, 0), 0, 127, 127, 0))
    change(model, f"{DEPTHWISE}_q", set_at((0, 0, 0), 127, 127, 127))  # no kernel makes pairs
    assert faults_of(model) == []
    # The stem's order is (kh, kw, channel): red and green of the first position.
    change(model, "backbone.conv_stem.weight_q", set_at((0, slice(0, 2), 0, 0), 100, 100))
    assert faults_of(model) == [
        "backbone.conv_stem.weight: a pair of weights adds up to 200; above 128 it can saturate "
        "int16"
    ]


def test_int8_activations_are_named(model):
    change(model, "hardtanh_1_zero", lambda a: a.astype(np.int8))
    assert "hardtanh_1_q: codes are int8, not uint8" in faults_of(model)


def test_an_addition_of_two_scales_is_named(model):
    add = first(model, "Add")
    other = producers(model.graph)[add.input[1]]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "own_scale"))
    rounding = producers(model.graph)[other.input[0]]
    readers = [n for n in model.graph.node if n.input[:1] == [other.input[0]]]
    for node in (rounding, *readers):
        node.input[1] = "own_scale"
    assert any("inputs and output of Add have scales" in line for line in faults_of(model))


def test_codes_read_with_another_scale_are_named(model):
    reader = next(n for n in model.graph.node if n.input[:1] == ["hardtanh_1_q"])
    assert reader.op_type == "DequantizeLinear"
    reader.input[1] = "pooled_scale"
    assert any("than they were rounded with" in line for line in faults_of(model))


def test_a_float_operator_is_named(model):
    conv = first(model, "Conv")
    after = next(n for n in model.graph.node if conv.output[0] in n.input)
    after.input[0] = "bent"
    at = list(model.graph.node).index(after)
    model.graph.node.insert(at, helper.make_node("Sigmoid", [conv.output[0]], ["bent"]))
    assert faults_of(model) == [
        "backbone.conv_stem.weight: Conv is computed in float",
        "bent: Sigmoid has no form with the same bits everywhere",
    ]


def test_float_weights_are_named(model):
    values = constants(model)
    wide = values[f"{DENSE}_q"] * values[f"{DENSE}_scale"].reshape(-1, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    next(n for n in model.graph.node if DENSE in n.input and n.op_type == "Conv").input[1] = "wide"
    assert "wide: Conv is computed in float" in faults_of(model)


def test_the_length_must_be_exact(pooled):
    model = onnx.ModelProto()
    model.CopyFrom(pooled)
    first(model, "Cast").attribute[0].i = onnx.TensorProto.FLOAT
    assert any("sum of squares of integers in float64" in line for line in faults_of(model))


def test_both_ends_of_max_pool_must_agree(pooled):
    model = onnx.ModelProto()
    model.CopyFrom(pooled)
    result = next(n for n in model.graph.node if n.input[:1] == [first(model, "MaxPool").output[0]])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "own_scale"))
    for node in model.graph.node:
        if result.output[0] in (*node.output, *node.input[:1]):
            node.input[1] = "own_scale"
    assert any("both ends of MaxPool" in line for line in faults_of(model))


def test_operators_of_another_domain_are_named(model):
    first(model, "QuantizeLinear").domain = "com.microsoft"
    assert any("of com.microsoft is not known" in line for line in faults_of(model))
