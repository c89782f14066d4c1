"""Every target: the promised types, and the same answers as fp32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from kinds import HALF, IMAGENET, Mixed, export, grid, resnet

from edge_fgr.errors import ModelError, UsageError
from edge_fgr.model import open_model
from edge_fgr_export.command import Options, run, stamp
from edge_fgr_export.equalise import chains_of, equalise, factors_of, moved
from edge_fgr_export.graph_card import graph_card
from edge_fgr_export.groups import body_of, groups_of, kernels_of, scales_of
from edge_fgr_export.half import to_half
from edge_fgr_export.nodes import constants
from edge_fgr_export.parity import logits_of
from edge_fgr_export.quantise import Settings, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.same_bits import check_same_bits, faults_of
from edge_fgr_export.targets import TARGETS, target_of
from edge_fgr_export.trial import relative_error, run_graph
from edge_fgr_export.weights import worst_pair
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.int8 import PAIR_LIMIT


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    torch.manual_seed(0)  # weights must not depend on which file was tested before
    return export(
        Backbone(Mixed(), 40, *HALF, "vector"), photos, 64, tmp_path_factory.mktemp("mixed")
    )


@pytest.fixture(scope="module")
def wanted(mixed, photos):
    return logits_of(mixed.open("fp32"), photos, mixed.contract.geometry)


def written(made, photos, target, **options):
    target = target_of(target)
    groups = groups_of(made.fp32, tied=target.tied)
    seen = collect(made.fp32, groups, photos, made.contract.geometry, kernels_of(made.fp32))
    return quantise(made.fp32, groups, seen, Settings(target=target, **options))


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if t.kind == "int8"])
def test_int8_targets_answer_as_fp32_does(name, mixed, photos, wanted):
    model = written(mixed, photos, name)
    logits = run_graph(model, photos, mixed.contract.geometry)
    assert relative_error(logits, wanted) < 0.1
    codes = {
        tensor.data_type
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
        for tensor in model.graph.initializer
        if tensor.name == node.input[2]
    }
    int8, uint8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8
    assert codes == {int8 if TARGETS[name].symmetric else uint8}


def test_full_range_weights_pay_off_and_promise_nothing(mixed, photos):
    model = written(mixed, photos, "x86-vnni")
    pairs = [
        worst_pair(v) for k, v in constants(model).items() if v.dtype == np.int8 and v.ndim > 1
    ]
    assert max(pairs) > PAIR_LIMIT
    assert any("pair" in fault for fault in faults_of(model))
    check_same_bits(written(mixed, photos, "portable"))


def test_symmetric_codes_keep_their_zero_and_their_clips(mixed, photos):
    model = written(mixed, photos, "tensorrt")
    zeros = [v for k, v in constants(model).items() if k.endswith("_zero")]
    assert all(not zero.any() for zero in zeros)
    cuts = [n for n in mixed.fp32.graph.node if n.op_type in ("Relu", "Clip")]
    assert len([n for n in model.graph.node if n.op_type in ("Relu", "Clip")]) == len(cuts)


def test_untied_adds_have_scales_of_their_own(photos, tmp_path):
    made = export(resnet(), photos, 64, tmp_path)
    adds = [node for node in made.fp32.graph.node if node.op_type == "Add"]
    for tied in (True, False):
        groups = groups_of(made.fp32, tied=tied)
        seen = collect(made.fp32, groups, photos[:8], made.contract.geometry)
        scales = scales_of(made.fp32, groups, seen.ranges, tied=tied)
        inputs = [{scales[groups[name]][0] for name in node.input} for node in adds]
        assert all(len(found) == 1 for found in inputs) is tied


def test_half_precision(mixed, photos, wanted, tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(stamp(to_half(mixed.fp32), mixed.contract))
    model = open_model(path, device="cpu")
    logits = logits_of(model, photos, mixed.contract.geometry)
    assert relative_error(logits, wanted) < 0.01
    assert logits.dtype == np.float32 and (logits != wanted).any()
    assert path.stat().st_size < 0.7 * mixed.paths["fp32"].stat().st_size
    half = onnx.load(path)
    assert {v.dtype for v in constants(half).values() if v.size > 100} == {np.dtype(np.float16)}
    assert half.ir_version == 10 and half.opset_import[0].version == 18


def test_wide_weights_are_nearer_and_still_the_same_bits(mixed, photos, wanted, tmp_path):
    layers = frozenset(n.name for n in body_of(mixed.fp32) if n.op_type == "Conv")
    narrow = written(mixed, photos, "portable")
    wide = written(mixed, photos, "portable", wide=layers)
    check_same_bits(wide)
    geometry = mixed.contract.geometry
    errors = [relative_error(run_graph(m, photos, geometry), wanted) for m in (narrow, wide)]
    assert errors[1] < errors[0]
    path = tmp_path / "wide.onnx"
    path.write_bytes(stamp(wide, mixed.contract))
    one = logits_of(open_model(path, device="cpu"), photos, geometry)
    two = logits_of(open_model(path, device="cpu", threads=2), photos, geometry)
    assert one.tobytes() == two.tobytes()
    reasons = {row["reason"] for row in graph_card(path)["nodes"] if row["operator"] == "Conv"}
    assert reasons == {"kept wide by the accuracy budget"}
    for name, value in constants(wide).items():
        if name.endswith("_whole"):
            broken = onnx.ModelProto()
            broken.CopyFrom(wide)
            tensor = next(t for t in broken.graph.initializer if t.name == name)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value * np.float32(1.5), name))
            assert any("wide weights" in fault for fault in faults_of(broken))


def test_equalised_chains_compute_the_same(tiny, photos):
    from edge_fgr_export.graph import from_network
    from edge_fgr_train.checkpoint import load_network

    network, contract, _ = load_network(tiny / "run")
    model = from_network(network, contract.geometry.size)
    chains = chains_of(model)
    assert len(set(chains.values())) == 7  # five with Adds, and two single projections
    groups, kernels = groups_of(model), kernels_of(model)
    geometry = contract.geometry
    seen = collect(model, groups, photos[:8], geometry, kernels, reaching=list(chains))
    factors = factors_of(model, seen.reaches)
    assert max(f.max() for f in factors.values()) > 1.2
    other = equalise(model, factors)
    before, after = (run_graph(m, photos[:8], geometry) for m in (model, other))
    np.testing.assert_allclose(after, before, atol=1e-4)
    again = collect(other, groups, photos[:8], geometry, kernels, reaching=list(chains))
    told = moved(seen, chains, factors)
    for name in again.means:
        np.testing.assert_allclose(told.means[name], again.means[name], rtol=1e-3, atol=1e-4)
    for kernel, found in again.covariances.items():
        np.testing.assert_allclose(
            told.covariances[kernel], found, rtol=1e-2, atol=1e-3 * np.abs(found).max()
        )
    for chain in set(chains.values()):
        reach = np.max([again.reaches[n] for n, c in chains.items() if c == chain], axis=0)
        assert reach.min() > 0.99 * reach.max() or factors[chain].max() == 64


def test_a_network_without_chains_is_left_alone(photos, tmp_path):
    made = export(Backbone(grid().module, grid().width, *IMAGENET, "grid"), photos, 32, tmp_path)
    assert all(name not in chains_of(made.fp32) for name in ("embedding", "features"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": "gpu"}, "is none of portable"),
        ({"max_drop": -1}, "from 0 to 100"),
        ({"max_drop": float("nan")}, "from 0 to 100"),
        ({"ranges": "guess"}, "is none of auto"),
        ({"range_images": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be_meant(options, match):
    with pytest.raises(UsageError, match=match):
        Options(**options)


def test_a_file_for_each_target(tiny, tmp_path):
    """The command line's way: names, contract, and the table of steps."""
    import json

    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        run(tiny / "run", tmp_path / "x.tflite", None)
    with pytest.raises(UsageError, match=r"must end in \.tflite"):
        run(tiny / "run", tmp_path / "x.onnx", None, Options("litert"))
    for name in ("x86-vnni", "fp16", "fp32"):
        output = tmp_path / f"{name}.onnx"
        steps = tmp_path / f"{name}.json"
        run(tiny / "run", output, None, Options(name, max_drop=40, json=steps))
        assert open_model(output, device="cpu").contract.target == name
        told = json.loads(steps.read_text())
        assert told["target"] == name and bool(told["steps"]) is (name == "x86-vnni")
    assert not (tmp_path / "fp32.fp32.onnx").exists()
    assert [step["step"] for step in json.loads((tmp_path / "x86-vnni.json").read_text())["steps"]][
        :2
    ] == ["nearest, min-max", "ranges: auto"]


def test_what_has_no_integer_form_is_refused_with_advice(photos, tmp_path):
    import timm

    body = timm.create_model("mobilenetv3_small_050", num_classes=0)
    backbone = Backbone(body, 1024, *IMAGENET, "vector")
    with pytest.raises(ModelError, match=r"HardS.*--target fp16 or fp32, or train an Efficient"):
        export(backbone, photos, 64, tmp_path)
