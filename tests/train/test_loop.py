"""How a training goes: when it stops, what it keeps, what it goes on with."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from edge_fgr.errors import ModelError, OutputError, UsageError
from edge_fgr_train.checkpoint import load_network, rows_of
from edge_fgr_train.loop import train
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import load_recipe
from edge_fgr_train.task import Task

CPU = torch.device("cpu")
SMALL = [
    "model.backbone=teaching_cnn", "geometry.size=32", "augment.size=32", "optimise.epochs=3",
    "optimise.lr=2e-3", "model.dropout=0",
]  # fmt: skip


def small(tiny, *changes):
    where = str(tiny / "tiny.toml")
    recipe = load_recipe(where, [*SMALL, *changes])
    return split_of(tiny / "data", recipe, where), recipe


def trained(tiny, folder, *changes, task=None):
    split, recipe = small(tiny, *changes)
    train(
        split, recipe, folder, CPU, task and task(recipe, sorted({s.label for s in split.fit}), CPU)
    )
    return load_file(folder / "model.safetensors")


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


class _Still(Task):
    """Norms on their statistics: then a batch is the sum of its pieces."""

    sizes: list[int]

    def loss(self, network, lesson, pixels, targets):
        network.eval()
        self.sizes.append(len(pixels))
        return super().loss(network, lesson, pixels, targets)


def test_pieces_add_up_to_the_batch(tiny, tmp_path):
    _Still.sizes = []
    whole = trained(tiny, tmp_path / "a", "optimise.precision=fp32", task=_Still)
    assert _Still.sizes == [4] * 6
    _Still.sizes = []
    pieces = trained(
        tiny, tmp_path / "b", "optimise.precision=fp32", "optimise.accumulate=2", task=_Still
    )
    assert _Still.sizes == [2] * 12
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_precision_is_what_was_asked_for(tiny, tmp_path):
    """bf16 and fp32 give other weights; fp32 is not touched by autocast."""
    kinds = set()

    class Seen(Task):
        def loss(self, network, lesson, pixels, targets):
            kinds.add(network(pixels).logits.dtype)
            return super().loss(network, lesson, pixels, targets)

    trained(tiny, tmp_path / "a", "optimise.precision=fp32", "optimise.epochs=1", task=Seen)
    assert kinds == {torch.float32}
    kinds.clear()
    trained(tiny, tmp_path / "b", "optimise.precision=bf16", "optimise.epochs=1", task=Seen)
    assert kinds == {torch.bfloat16}


def test_patience_stops_and_keeps_the_best(tiny, tmp_path):
    changes = ["optimise.epochs=30", "optimise.patience=2", "optimise.schedule=constant"]
    kept = trained(tiny, tmp_path / "run", *changes)
    found = rows(tmp_path / "run")
    scores = [row["top1"] for row in found]
    best = scores.index(max(scores))
    assert len(found) == best + 3 < 30
    short = trained(tiny, tmp_path / "short", f"optimise.epochs={best + 1}",
                    "optimise.schedule=constant")  # fmt: skip
    assert same(kept, short)
    again = trained(tiny, tmp_path / "run", *changes)  # resumed: it is over, and stays so
    assert same(again, kept) and rows(tmp_path / "run") == found


def test_fixing_the_resolution_changes_the_head_and_the_last_norm_alone(tiny, tmp_path):
    changes = ["optimise.ema=0", "geometry.size=64", "augment.size=64", "augment.crop=shift"]
    before = trained(tiny, tmp_path / "a", *changes)
    split, recipe = small(tiny, *changes, "optimise.fix_epochs=3")
    sizes = set()

    class Seen(Task):
        def loss(self, network, lesson, pixels, targets):
            sizes.add(tuple(pixels.shape[1:3]))
            return super().loss(network, lesson, pixels, targets)

    labels = sorted({sample.label for sample in split.fit})
    train(split, recipe, tmp_path / "b", CPU, Seen(recipe, labels, CPU))
    after = load_file(tmp_path / "b" / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        "backbone.5.bias", "backbone.5.num_batches_tracked", "backbone.5.running_mean",
        "backbone.5.running_var", "backbone.5.weight", "head.bias", "head.weight",
    }  # fmt: skip
    assert len(rows(tmp_path / "b")) == 6 and sizes == {(64, 64)}
    assert rows(tmp_path / "b")[-1]["loss"] < rows(tmp_path / "b")[2]["loss"]


def test_refitted_head(tiny, tmp_path, capsys):
    """The same network under a head that is computed: linear, on embeddings of length 1."""
    plain = trained(tiny, tmp_path / "a")
    other = trained(tiny, tmp_path / "b", "model.refit=whitened")
    assert {name for name in plain if not torch.equal(plain[name], other[name])} == {
        "head.bias", "head.weight",
    }  # fmt: skip
    assert '"refit": "whitened", "top1"' in capsys.readouterr().err
    network, contract, made = load_network(tmp_path / "b")
    assert network.l2 and contract.labels
    from edge_fgr_train.evaluate import logits_of

    paths = [tiny / "data" / name for name in made.fit]
    truth = [next(i for i, c in enumerate(contract.labels) if "/".join(c) in n) for n in made.fit]
    assert (logits_of(network, paths, contract.geometry).argmax(1) == truth).mean() > 0.8
    assert same(trained(tiny, tmp_path / "b", "model.refit=whitened"), other)


def test_students_learn_from_teachers_alone(tiny, tmp_path):
    """With all weight on the teacher, labels do not matter: what it believes is learnt."""
    trained(tiny, tmp_path / "teacher", "optimise.epochs=12")
    network, contract, made = load_network(tmp_path / "teacher")
    changes = [f'teacher.runs=["{tmp_path / "teacher"}"]', "teacher.weight=1", "optimise.epochs=12",
               "optimise.seed=5"]  # fmt: skip
    trained(tiny, tmp_path / "student", *changes)
    trained(tiny, tmp_path / "alone", "optimise.epochs=12", "optimise.seed=5")
    from edge_fgr_train.evaluate import logits_of

    paths = [tiny / "data" / name for name in made.fit]
    wanted = torch.from_numpy(logits_of(network, paths, contract.geometry)).softmax(1)
    gaps = []
    for name in ("student", "alone"):
        other, _, _ = load_network(tmp_path / name)
        found = torch.from_numpy(logits_of(other, paths, contract.geometry)).softmax(1)
        gaps.append(float((found - wanted).abs().sum(1).mean()))
    assert gaps[0] < 0.8 * gaps[1]


def test_teacher_of_other_classes_is_refused(tiny, tmp_path):
    trained(tiny, tmp_path / "teacher", "optimise.epochs=1")
    shutil.copytree(tiny / "data", tmp_path / "data")
    (tmp_path / "data" / "train" / "Fruit" / "Banana").rename(
        tmp_path / "data" / "train" / "Fruit" / "Plantain"
    )
    recipe = load_recipe(
        str(tiny / "tiny.toml"),
        [*SMALL, f'teacher.runs=["{tmp_path / "teacher"}"]', 'data.evaluate=""',
         'data.calibration=""'],
    )  # fmt: skip
    split = split_of(tmp_path / "data", recipe)
    with pytest.raises(UsageError, match="other classes"):
        train(split, recipe, tmp_path / "run", CPU)
    with pytest.raises(Exception, match="no run here"):
        trained(tiny, tmp_path / "x", f'teacher.runs=["{tmp_path / "nowhere"}"]')


@pytest.mark.parametrize(
    "more",
    [
        ["optimise.members=2", "optimise.epochs=2"],
        ["optimise.fix_epochs=2", "parts.method=dcl", "optimise.epochs=2"],
        [
            "model.head=arcface",
            "augment.policy=trivial",
            "augment.start_size=32",
            "optimise.epochs=4",
        ],
    ],
)
def test_killed_after_any_epoch_and_resumed(tiny, tmp_path, more, monkeypatch):
    whole = trained(tiny, tmp_path / "whole", *more)
    from edge_fgr_train import loop

    saved, interrupted = loop.save_state, tmp_path / "run"

    def stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    for _ in range(3):
        monkeypatch.setattr(loop, "save_state", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny, interrupted, *more)
    monkeypatch.setattr(loop, "save_state", saved)
    assert same(trained(tiny, interrupted, *more), whole)
    assert rows(interrupted) == rows(tmp_path / "whole")


def test_killed_at_a_random_moment_and_resumed(tiny, tmp_path):
    """A process that is killed without warning, again and again, ends with the same weights."""
    changes = [part for change in [*SMALL, "optimise.epochs=40"] for part in ("--set", change)]
    command = [sys.executable, "-m", "edge_fgr", "train", str(tiny / "data"), "--device", "cpu",
               "--recipe", str(tiny / "tiny.toml"), *changes, "-o"]  # fmt: skip
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.PIPE) as child:
            state, before = tmp_path / "run" / "state.safetensors", 0
            if state.exists():
                before = len(rows_of(state))
            while not state.exists() or len(rows_of(state)) < before + 3:
                time.sleep(0.05)
                assert child.poll() is None
            child.send_signal(number)
        assert child.returncode == (-9 if number == signal.SIGKILL else 143)
    subprocess.run([*command, str(tmp_path / "run")], check=True, capture_output=True)
    assert same(*(load_file(tmp_path / n / "model.safetensors") for n in ("whole", "run")))


def test_full_disk(tiny, tmp_path):
    """What cannot be written whole is not there, and what was there before stays."""
    trained(tiny, tmp_path / "run", "optimise.epochs=2")
    known = (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "run.json").write_text(
        (tmp_path / "run" / "run.json").read_text().replace('"epochs": 2', '"epochs": 3')
    )
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(known) // 2, bounds[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            trained(tiny, tmp_path / "run", "optimise.epochs=3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == known
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".")]
    assert len(rows(tmp_path / "run")) == 2
    trained(tiny, tmp_path / "run", "optimise.epochs=3")
    assert len(rows(tmp_path / "run")) == 3


def test_other_images_under_the_same_names_are_refused(tiny, tmp_path, photos):
    shutil.copytree(tiny / "data", tmp_path / "data")
    where = str(tiny / "tiny.toml")
    recipe = load_recipe(where, SMALL)
    train(split_of(tmp_path / "data", recipe, where), recipe, tmp_path / "run", CPU)
    shutil.copy(photos[0], tmp_path / "data" / "train" / "Fruit" / "Banana" / "0.jpg")
    with pytest.raises(UsageError, match="images have changed"):
        train(split_of(tmp_path / "data", recipe, where), recipe, tmp_path / "run", CPU)


def test_patience_and_fix_epochs_exclude_each_other(tiny):
    with pytest.raises(UsageError, match="need patience = 0"):
        load_recipe(
            str(tiny / "tiny.toml"), [*SMALL, "optimise.patience=2", "optimise.fix_epochs=1"]
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.pool=max", "'max' is none of"),
        ("model.margin=3", r"model\.margin must be in 0 to 1\.5"),
        ("augment.start_size=64", "start_size"),
        ("augment.policy=best", "none of"),
        ("optimise.accumulate=3", "must divide batch"),
        ("optimise.layer_decay=0", "layer_decay"),
        ("teacher.weight=2", "teacher.weight"),
        ("parts.grid=1", "parts.grid"),
        ("parts.methods=dcl", "unknown key"),
        ("optimise.patience=-1", "patience"),
    ],
)
def test_values_out_of_range(tiny, change, said):
    with pytest.raises(UsageError, match=said):
        load_recipe(str(tiny / "tiny.toml"), [*SMALL, change])


def test_state_of_another_kind_is_refused(tiny, tmp_path):
    trained(tiny, tmp_path / "run", "optimise.epochs=1")
    shutil.copy(tmp_path / "run" / "model.safetensors", tmp_path / "run" / "state.safetensors")
    with pytest.raises(ModelError, match="cannot be resumed"):
        trained(tiny, tmp_path / "run", "optimise.epochs=1")
