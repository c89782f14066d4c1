"""Steps that are chosen by what they buy, and layers that get wider when that is not enough."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from kinds import HALF, Mixed, export
from onnx import numpy_helper

from edge_fgr.errors import ModelError
from edge_fgr_export import budget
from edge_fgr_export.budget import quantise_within, table
from edge_fgr_export.copies import copies_of, known_with, with_copies
from edge_fgr_export.groups import groups_of, kernels_of, scales_of
from edge_fgr_export.images import images_of
from edge_fgr_export.nodes import constants
from edge_fgr_export.quantise import Settings, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.same_bits import check_same_bits
from edge_fgr_export.trial import Bench, relative_error, run_graph
from edge_fgr_train.backbones import Backbone
from edge_fgr_train.checkpoint import Run, load_network


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    torch.manual_seed(2)
    body = Mixed()
    # What goes past the skip must count, or nothing is lost without it.
    torch.nn.init.constant_(body.back[1].weight, 4.0)
    return export(Backbone(body, 40, *HALF, "vector"), photos, 64, tmp_path_factory.mktemp("mixed"))


def bench_of(model, photos, geometry):
    logits = run_graph(model, photos, geometry)
    answers = [int(row.argmax()) for row in logits]
    return Bench(photos[::2], logits[::2], photos, logits, answers, geometry)


def hostile(model):
    """A silent channel has weights so large that 8 bits for a row leave nothing of all others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values = {name: value.copy() for name, value in constants(copy).items()}
    back = next(
        n for n in copy.graph.node if n.op_type == "Conv" and n.input[1].endswith("back.0.weight")
    )
    before = next(n for n in copy.graph.node if n.op_type == "Conv" and "wider" in n.input[1])
    values[before.input[1]][0] = 0
    values[before.input[2]][0] = -1
    weights = values[back.input[1]]
    weights[:, 0] = 150 * np.abs(weights).max()
    for tensor in copy.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return copy


def test_wider_weights_rescue_what_8_bits_cannot_hold(mixed, photos):
    model = hostile(mixed.fp32)
    bench = bench_of(model, photos, mixed.contract.geometry)
    done = quantise_within(model, Settings(), bench, photos, max_drop=10)
    last = done.trials[-1]
    assert 0 < last.wide < 5 and last.verdict.lost - last.verdict.won <= 3
    best_narrow = min(t.error for t in done.trials if not t.wide)
    assert last.error < 0.5 * best_narrow
    check_same_bits(done.model)
    gains = list(done.sensitivity.values())
    assert "back" in next(iter(done.sensitivity)) and gains == sorted(gains, reverse=True)
    told = table(done.trials)
    assert told[0]["step"] == "nearest, min-max" and told[-1]["wide"] == last.wide


def test_what_wider_weights_cannot_rescue_is_refused(mixed, photos):
    """Wrong labels for whatever INT8 says stand for activations that 8 bits cannot hold."""
    geometry = mixed.contract.geometry
    bench = bench_of(mixed.fp32, photos, geometry)
    lost = np.roll(bench.judged_logits, 1, axis=1)
    never = Bench(
        bench.chosen_on, bench.chosen_logits, photos, lost, list(lost.argmax(axis=1)), geometry
    )
    with pytest.raises(ModelError, match=r"loses \d+\.\d points .* activations do not fit 8 bits"):
        quantise_within(mixed.fp32, Settings(), never, photos, max_drop=0.3)


def test_steps_that_do_not_help_are_not_kept(mixed, photos, monkeypatch):
    bench = bench_of(mixed.fp32, photos, mixed.contract.geometry)
    monkeypatch.setattr(budget, "_TELLING", 0)
    done = quantise_within(mixed.fp32, Settings(), bench, photos, max_drop=50)
    error = np.inf
    for trial in done.trials:
        assert trial.kept is (trial.error <= 0.995 * error)
        error = trial.error if trial.kept else error
    assert run_graph(done.model, photos[:4], bench.geometry).tobytes()
    assert relative_error(
        run_graph(done.model, bench.chosen_on, bench.geometry), bench.chosen_logits
    ) == pytest.approx(error)


def silent_twin(model):
    """The same network with four channels in front of the depthwise layer that cannot speak."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values = {name: value.copy() for name, value in constants(copy).items()}
    convs = [n for n in copy.graph.node if n.op_type == "Conv"]
    for channel in (1, 5, 9, 13):
        for conv in convs[:2]:
            values[conv.input[1]][channel] = 0
            values[conv.input[2]][channel] = -1
    for tensor in copy.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return copy


def test_silent_channels_make_codes_finer(tiny, photos):
    from edge_fgr_export.graph import from_network

    network, contract, _ = load_network(tiny / "run")
    model = silent_twin(from_network(network, contract.geometry.size))
    geometry, groups = contract.geometry, groups_of(model)
    copies = copies_of(model)
    (found,) = [c for c in copies if len(c.source) == 32]
    assert {1, 5, 9, 13} <= set(np.flatnonzero(found.source != np.arange(32)))
    seen = collect(model, groups, photos, geometry, kernels_of(model))
    other = with_copies(model, copies, scales_of(model, groups, seen.ranges), groups)
    wanted = run_graph(model, photos, geometry)
    np.testing.assert_allclose(run_graph(other, photos, geometry), wanted, atol=0.02)
    told, real = (
        known_with(copies, seen),
        collect(other, groups, photos, geometry, kernels_of(other)),
    )
    for kernel, covariance in real.covariances.items():
        np.testing.assert_allclose(
            told.covariances[kernel], covariance, atol=0.02 * np.abs(covariance).max() + 1e-4
        )
    settings = Settings()
    errors = [
        relative_error(run_graph(quantise(m, groups, s, settings), photos, geometry), wanted)
        for m, s in ((model, seen), (other, told))
    ]
    assert errors[1] < errors[0]


def test_images_for_ranges_and_for_choosing_are_apart(tiny):
    made = Run.read(tiny / "run")
    for count in (1, 4, 256):
        images = images_of(made, None, count)
        assert images.ranges and images.chosen
        assert not {*images.ranges} & {*images.chosen}
        assert not {*images.judged} & {*images.ranges, *images.chosen}
        assert len(images.ranges) <= max(count, 1)
