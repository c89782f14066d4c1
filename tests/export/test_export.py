"""From a run to one file: the same answers from torch, fp32 and INT8, on image files."""

from __future__ import annotations

import collections
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_fgr import Classifier, image
from edge_fgr.errors import InputMissingError, ModelError, OutputError, UsageError
from edge_fgr.model import embedded, open_model
from edge_fgr_export.command import fp32_path, run
from edge_fgr_export.graph import from_network
from edge_fgr_export.moments import Kernel
from edge_fgr_export.parity import logits_of
from edge_fgr_export.quantise import groups_of, kernels_of
from edge_fgr_export.ranges import collect
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.evaluate import logits_of as torch_logits_of
from edge_fgr_train.temperature import fit_temperature


@pytest.fixture(scope="session")
def exported(tiny):
    output = tiny / "out" / "tiny.onnx"
    run(tiny / "run", output, None)
    return output


def test_torch_fp32_and_int8_agree_on_files(tiny, exported, photos):
    network, contract, _ = load_network(tiny / "run")
    torch_logits = torch_logits_of(network, photos, contract.geometry)
    fp32 = logits_of(open_model(fp32_path(exported), device="cpu"), photos, contract.geometry)
    int8 = logits_of(open_model(exported, device="cpu"), photos, contract.geometry)
    np.testing.assert_allclose(fp32, torch_logits, atol=1e-4)
    assert (fp32.argmax(1) == int8.argmax(1)).mean() > 0.8  # a network of two epochs is unsure
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] > 0.97


def test_contract_is_stamped(exported):
    contract = Classifier.load(exported).contract
    assert contract.target == "portable" and contract.name == "tiny"
    assert contract.confidence is not None and contract.confidence.temperature > 0
    assert set(contract.provenance.metrics) == {"calibration"}
    assert "9 images, sha256:" in contract.provenance.data
    assert open_model(fp32_path(exported)).contract.target == "fp32"


def test_nothing_else_is_left(exported):
    assert {path.name for path in exported.parent.iterdir()} == {"tiny.onnx", "tiny.fp32.onnx"}
    assert b"site-packages" not in exported.read_bytes()  # no paths of this machine


@pytest.mark.parametrize(
    ("which", "convs", "sums", "scaled"),
    [("exported", 49, 9, 0), ("flowers17", 49, 9, 1), ("grocery81", 64, 14, 1)],
)
def test_every_operator_of_the_backbone_is_integer(which, convs, sums, scaled, tmp_path, request):
    """``scaled``: a head on embeddings of length 1 adds its bias after the division."""
    path = request.getfixturevalue("exported") if which == "exported" else embedded()[which]
    model = onnx.load(path)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = collections.Counter(
        n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node
    )
    assert found["QLinearConv"] == convs and found["QLinearAdd"] == sums and found["QGemm"] == 1
    assert found["QLinearGlobalAveragePool"] == 1 and found["Add"] == scaled
    assert not {
        "Conv",
        "Gemm",
        "MatMul",
        "GlobalAveragePool",
        "Clip",
        "QuantizeLinear",
    } & set(found)
    assert found["DequantizeLinear"] == 2  # embedding and features, for whoever asks for them


def test_residual_chains_share_one_scale(tiny):
    network, contract, _ = load_network(tiny / "run")
    model = from_network(network, contract.geometry.size)
    groups = groups_of(model)
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(adds) == 9
    for node in adds:
        assert len({groups[name] for name in (*node.input, *node.output)}) == 1
    assert len({groups[node.output[0]] for node in adds}) == 5  # stages with a residual


def test_same_run_gives_the_same_bytes(tiny, exported, tmp_path):
    run(tiny / "run", tmp_path / "again.onnx", None)
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_batch_and_single_agree_to_the_bit(exported, photos):
    model = open_model(exported, device="cpu")
    pixels = np.stack([image.load(photo, model.contract.geometry) for photo in photos[:8]])
    single = np.concatenate([model.run(row[None]) for row in pixels])
    assert model.run(pixels).tobytes() == single.tobytes()


def test_earlier_file_survives_a_failure(tiny, tmp_path):
    shutil.copytree(tiny / "run", tmp_path / "run")
    output = tmp_path / "model.onnx"
    output.write_bytes(b"an earlier model")
    with pytest.raises(InputMissingError, match="--data"):
        run(tmp_path / "run", output, tmp_path / "nowhere")
    (tmp_path / "run" / "contract.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged run"):
        run(tmp_path / "run", output, None)
    assert output.read_bytes() == b"an earlier model"
    assert not list(tmp_path.glob(".model*"))


def test_arguments_that_cannot_be_meant(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"\.onnx"):
        run(tiny / "run", tmp_path / "model.bin", None)
    with pytest.raises(InputMissingError, match="no run here"):
        run(tmp_path, tmp_path / "model.onnx", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run(tiny / "run", tmp_path / "file" / "model.onnx", None)


def test_ranges_hold_what_the_tensors_show(tiny, photos):
    network, contract, _ = load_network(tiny / "run")
    model = from_network(network, contract.geometry.size)
    groups = groups_of(model)
    seen = collect(model, groups, photos[:10], contract.geometry, kernels_of(model))
    ranges = seen.ranges
    assert set(ranges) == set(groups.values())
    for low, high in ranges.values():
        assert low <= 0 < high
    assert set(groups) < set(seen.means) and seen.means["pooled"].shape == (1280,)
    stem = next(node.input[0] for node in model.graph.node if node.op_type == "Conv")
    assert seen.covariances[Kernel(stem, (3, 3))].shape == (1, 27, 27)
    assert all(np.linalg.eigvalsh(c).min() > -1e-3 for c in seen.covariances.values())
    clips = [node.output[0] for node in model.graph.node if node.op_type == "Clip"]
    assert all(ranges[groups[name]][0] == 0 and ranges[groups[name]][1] <= 6 for name in clips)


def test_temperature_recovers_a_known_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    values = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = [int(rng.choice(5, p=row)) for row in values]
    assert fit_temperature((logits * 3).astype(np.float32), targets) == pytest.approx(3, rel=0.1)
