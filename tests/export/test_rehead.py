"""Another head on an exported model: the backbone stays, the logits are the new head's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from kinds import export, grid

from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import ModelError
from edge_fgr.model import embedded, open_model
from edge_fgr_export.command import stamp
from edge_fgr_export.heads import head_of
from edge_fgr_export.nodes import constants
from edge_fgr_export.rehead import rehead
from edge_fgr_export.weights import worst_pair
from edge_fgr_train.batches import batches
from edge_fgr_train.int8 import PAIR_LIMIT


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    return export(grid(), photos, 32, tmp_path_factory.mktemp("grid"))


def reopened(model, like, classes, path):
    contract = Contract("new", 1, tuple((f"{i}",) for i in range(classes)), like.geometry)
    path.write_bytes(stamp(model, contract))
    return [open_model(path, device="cpu", threads=threads) for threads in (1, 2)]


def fit(embedding, classes, l2):
    """A head that spreads the photos over so many classes: least squares, as a user would."""
    seen = embedding / np.linalg.norm(embedding, axis=1, keepdims=True) if l2 else embedding
    seen = seen.astype(float)
    wanted = 8 * np.eye(classes)[np.arange(len(seen)) * classes // len(seen)]
    centred = seen - seen.mean(0)
    gram = centred @ centred.T
    weight = wanted.T @ np.linalg.solve(
        gram + 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram)), centred
    )
    bias = wanted.mean(0) - weight @ seen.mean(0)
    return weight.astype(np.float32), bias.astype(np.float32), seen


@pytest.mark.parametrize("l2", [False, True])
@pytest.mark.parametrize("which", ["shipped", "int8", "fp32"])
def test_logits_are_those_of_the_new_head(which, l2, made, photos, tmp_path):
    path = embedded()["grocery81"] if which == "shipped" else made.paths[which]
    base = open_model(path, device="cpu")
    shown = photos[:16]
    pixels = np.concatenate(list(batches(shown, base.contract.geometry)))
    embedding, features = base.outputs(pixels, "embedding", "features")
    weight, bias, seen = fit(embedding, 4, l2)
    expected = seen @ weight.T + bias
    original = onnx.load(path)
    before = original.SerializeToString()
    model = rehead(original, weight, bias, l2=l2)
    assert original.SerializeToString() == before and METADATA_KEY in before.decode("latin-1")
    assert not model.metadata_props
    one, two = reopened(model, base.contract, 4, tmp_path / "new.onnx")
    logits = one.run(pixels)
    np.testing.assert_allclose(logits, expected, atol=1e-4 if which == "fp32" else 2e-3)
    assert (logits.argmax(1) == expected.argmax(1)).all()
    for again in (two.run(pixels), np.concatenate([one.run(row[None]) for row in pixels])):
        if which != "fp32":
            assert again.tobytes() == logits.tobytes()
    after = one.outputs(pixels, "embedding", "features")
    np.testing.assert_array_equal(after[0], embedding)
    np.testing.assert_array_equal(after[1], features)
    if which != "fp32":
        assert worst_pair(constants(model)[f"{head_of(model.graph).weight}_q"]) <= PAIR_LIMIT


def test_heads_follow_one_another(made):
    """Plain to unit length and back: nothing of the heads in between is left."""
    weight, bias = (constants(made.fp32)[f"head.{part}"] for part in ("weight", "bias"))
    assert made.seen.means["embedding"].shape == (2048,)  # per element, not per channel
    other = rehead(made.int8, weight[:3], bias[:3], l2=True)
    assert head_of(other.graph).l2
    back = rehead(other, weight, bias, l2=False).SerializeToString()
    assert back == rehead(made.int8, weight, bias, l2=False).SerializeToString()


def test_refused(made):
    weight, bias = np.ones((3, 2048), np.float32), np.zeros(3, np.float32)
    for bad in ({"weight": weight[:, 1:]}, {"bias": bias[1:]}):
        with pytest.raises(ModelError, match="does not fit an embedding"):
            rehead(made.int8, **{"weight": weight, "bias": bias, **bad}, l2=False)
    twice = onnx.ModelProto()
    twice.CopyFrom(made.fp32)
    twice.graph.node.append(onnx.helper.make_node("Relu", ["scores"], ["logits"]))
    twice.graph.node[-2].output[0] = "scores"
    with pytest.raises(ModelError, match="no single linear layer"):
        rehead(twice, weight, bias, l2=False)
    del twice.graph.output[1]
    with pytest.raises(ModelError, match="that edge-fgr exported"):
        rehead(twice, weight, bias, l2=False)
