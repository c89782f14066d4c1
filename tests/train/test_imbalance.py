"""Classes of unequal size: each method against its formula, and what it brings a rare class."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from edge_fgr import extras
from edge_fgr.errors import UsageError
from edge_fgr_train.augment import TrainingSet
from edge_fgr_train.checkpoint import Run, load_network
from edge_fgr_train.classifiers import rebalanced, retrained_head
from edge_fgr_train.command import run
from edge_fgr_train.dataset import counts_of, labels_of, scan, targets_of
from edge_fgr_train.evaluate import logits_of
from edge_fgr_train.imbalance import choose
from edge_fgr_train.loading import draw_batches
from edge_fgr_train.loop import train
from edge_fgr_train.losses import LabelLoss, class_weights, focal_loss, offsets
from edge_fgr_train.network import build_network
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import Balance, Model, Recipe, load_recipe
from edge_fgr_train.sampling import class_shares, draw_order
from edge_fgr_train.task import Task

CPU = torch.device("cpu")
COUNTS = {"a": 32, "b": 16, "c": 4}
CHANGES = [
    "model.backbone=teaching_cnn", "model.dropout=0", "geometry.size=32", "augment.size=32",
    "augment.crop_min=1", "augment.jitter=0", "augment.mixup=0", "augment.cutmix=0",
    "augment.erase=0", "optimise.batch=8", "optimise.lr=1e-3", "optimise.epochs=9",
    "optimise.precision=fp32", "optimise.ema=0.9", "model.scale=4", "model.margin=0.1",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """These networks are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes that differ by their light, and overlap; 16 of each are judged."""
    root = tmp_path_factory.mktemp("lopsided")
    draws = np.random.default_rng(0)
    for split, counts in (("train", COUNTS), ("val", dict.fromkeys(COUNTS, 16))):
        for place, (label, count) in enumerate(counts.items()):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                light = draws.normal((105, 175, 140)[place], 10)
                pixels = (light + draws.normal(0, 25, (32, 32, 3))).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / label / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Train by some changes, each once: the run's folder."""
    home, made = tmp_path_factory.mktemp("runs"), {}

    def folder(*changes):
        if changes not in made:
            made[changes] = home / str(len(made))
            trained(data, made[changes], *changes)
        return made[changes]

    return folder


def trained(data, folder, *changes, task=None):
    recipe = load_recipe("default", [*CHANGES, *changes])
    split = split_of(data, recipe)
    labels = labels_of(split.fit)
    made = task and task(recipe, labels, CPU, counts_of(split.fit, labels))
    train(split, recipe, folder, CPU, made)
    return load_file(folder / "model.safetensors")


def state(run):
    return load_file(run / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def recalls(data, run):
    network, contract, _ = load_network(run)
    samples = scan(data, ("val",))
    truth = np.array(targets_of(samples, contract.labels))
    said = logits_of(network, [s.path for s in samples], contract.geometry).argmax(1)
    return [float((said[truth == c] == c).mean()) for c in range(3)]


# What each method brings the rare class, end to end.


def test_without_help_the_rare_class_is_lost(data, runs):
    found = recalls(data, runs())
    assert found[2] < 0.2 and min(found[:2]) > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        ("balance.sampler=balanced",),
        ("balance.adjust=loss",),
        ("balance.adjust=bias",),
        ("balance.classifier=crt",),
        ("balance.adjust=loss", "augment.mixup=0.2", "optimise.members=2"),
        ("balance.adjust=loss", "model.head=arcface"),
        ("balance.classifier=crt", "model.head=cosine"),
    ],
    ids=" ".join,
)
def test_the_rare_class_gains(data, runs, changes):
    before, after = recalls(data, runs()), recalls(data, runs(*changes))
    assert after[2] >= before[2] + 0.3
    assert np.mean(after) > np.mean(before)


def border(judge, sampler="natural"):
    """Fit two classes that overlap in one dimension, one of them rare: where their border is."""
    draws = np.random.default_rng(0)
    targets = [0] * 320 + [1] * 20
    x = np.where(np.array(targets) == 0, -1.0, 1.0) + draws.normal(0, 1.0, 340)
    order = draw_order(targets, sampler, torch.Generator().manual_seed(0))
    rows, classes = torch.tensor(x)[[row for row, _ in order]].float(), torch.tensor(targets)
    classes = classes[[row for row, _ in order]]
    line = torch.zeros(2, 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100)

    def step():
        optimiser.zero_grad()
        loss = judge(rows[:, None] * line[0] + line[1], classes)
        loss.backward()
        return loss

    optimiser.step(step)
    (slope, offset) = (line[:, 1] - line[:, 0]).tolist()
    return -offset / slope


def test_the_border_moves_to_the_middle():
    """Of two normal distributions it is 0 where classes are alike, else half the log of the odds.

    Networks that fit all images of theirs show less of what weights do (Byrd & Lipton 2019).
    """

    def found(sampler="natural", **balance):
        made = Balance(sampler=sampler, **balance)
        return border(LabelLoss(made, Model(), 0.0, [320, 20], CPU), sampler)

    natural = found()
    assert natural == pytest.approx(math.log(16) / 2, abs=0.35)
    for even in (
        found(loss="class-balanced", beta=0.9999),
        found(sampler="balanced"),
        found(adjust="loss"),
        found(sampler="sqrt", adjust="loss"),
    ):
        assert abs(even) < 0.3
    assert 0.3 < found(sampler="sqrt") < natural - 0.3
    assert 0.3 < found(adjust="loss", tau=0.5) < natural - 0.3
    assert 0.3 < found(loss="class-balanced", beta=0.99) < natural - 0.3


# Sampling.


def test_shares_by_hand():
    assert class_shares([16, 4, 1]).tolist() == pytest.approx([16 / 21, 4 / 21, 1 / 21])
    assert class_shares([16, 4, 1], "sqrt").tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert class_shares([16, 4, 1], "balanced").tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("sampler", ["sqrt", "balanced"])
def test_classes_are_drawn_by_their_shares_and_images_alike(sampler):
    counts = [16, 4, 1]
    targets = np.repeat([0, 1, 2], counts)
    drawn = Counter()
    for seed in range(400):
        order = draw_order(targets.tolist(), sampler, torch.Generator().manual_seed(seed))
        assert len(order) == 21
        for row in {row for row, _ in order}:  # numbered as they come
            assert [n for r, n in order if r == row] == list(range(sum(r == row for r, _ in order)))
        drawn.update(row for row, _ in order)
    images = np.array([drawn[row] for row in range(21)]) / (400 * 21)
    wanted = class_shares(counts, sampler).numpy()
    found = [images[targets == c].sum() for c in range(3)]
    np.testing.assert_allclose(found, wanted, atol=0.02)
    np.testing.assert_allclose(images, (wanted / counts)[targets], atol=0.006)


def test_natural_order_is_the_one_it_always_was():
    expected = torch.randperm(7, generator=torch.Generator().manual_seed(3)).tolist()
    order = draw_order([0] * 7, "natural", torch.Generator().manual_seed(3))
    assert order == [(row, 0) for row in expected]


def test_an_image_drawn_again_looks_different(data):
    samples = scan(data, ("train",))
    recipe = load_recipe("default", [*CHANGES, "augment.crop_min=0.3"])
    targets = targets_of(samples, labels_of(samples))
    pictures = TrainingSet(samples, targets, recipe.augment, recipe.geometry, 0)
    first, other = pictures.draw(3), pictures.draw(3, 1)
    np.testing.assert_array_equal(first[0], pictures[3][0])
    np.testing.assert_array_equal(other[0], pictures.draw(3, 1)[0])
    assert (first[0] != other[0]).any() and first[1] == other[1]
    batches = list(draw_batches(pictures, 8, 0, 6, "balanced"))
    rare = torch.cat([pixels[classes == 2] for pixels, classes in batches])
    assert len(rare) > 8 and len(rare.flatten(1).unique(dim=0)) == len(rare)


# Losses.


def test_class_weights_are_those_of_the_paper():
    counts, beta = [500, 50, 1], 0.99
    plain = [(1 - beta) / (1 - beta**n) for n in counts]
    expected = [weight * 3 / sum(plain) for weight in plain]
    assert class_weights(counts, beta).tolist() == pytest.approx(expected, rel=1e-6)
    assert class_weights(counts, 0.0).tolist() == [1, 1, 1]
    nearly = class_weights([4, 2, 1], 1 - 1e-9)  # one over the number of images
    assert (nearly / nearly[0]).tolist() == pytest.approx([1, 2, 4], rel=1e-5)


def loss_of(counts=(5, 2, 1), smoothing=0.1, model=None, **balance):
    return LabelLoss(Balance(**balance), model or Model(), smoothing, counts, CPU)


def examples():
    torch.manual_seed(0)
    return torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 2, 1]), torch.rand(6, 3).softmax(1)


def test_defaults_are_cross_entropy():
    logits, classes, shares = examples()
    for targets in (classes, shares):
        expected = functional.cross_entropy(logits, targets, label_smoothing=0.1)
        assert torch.equal(loss_of()(logits, targets), expected)


def test_focal_loss():
    logits, classes, shares = examples()
    for targets in (classes, shares):
        plain = functional.cross_entropy(logits, targets, label_smoothing=0.1)
        torch.testing.assert_close(loss_of(loss="focal", gamma=0)(logits, targets), plain)
        assert loss_of(loss="focal")(logits, targets) < plain
    p = logits.softmax(1)[torch.arange(6), classes]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    torch.testing.assert_close(loss_of(loss="focal", smoothing=0)(logits, classes), expected)


def test_focal_loss_of_what_is_certain_has_a_slope():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([[1.0, 0.0, 0.0]]), 0.5).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_balanced_loss_weighs_images(smoothing):
    logits, classes, shares = examples()
    weights = class_weights([5, 2, 1], 0.9)
    judge = loss_of(smoothing=smoothing, loss="class-balanced", beta=0.9)
    each = [
        functional.cross_entropy(logits, t, label_smoothing=smoothing, reduction="none")
        for t in (classes, shares)
    ]
    torch.testing.assert_close(judge(logits, classes), (weights[classes] * each[0]).mean())
    torch.testing.assert_close(judge(logits, shares), (shares @ weights * each[1]).mean())
    halves = [judge(logits[i : i + 3], shares[i : i + 3]) / 2 for i in (0, 3)]
    torch.testing.assert_close(sum(halves), judge(logits, shares))  # pieces add up


@pytest.mark.parametrize(("sampler", "tau"), [("natural", 1.0), ("natural", 0.5), ("sqrt", 1.0)])
def test_adjusted_loss(sampler, tau):
    logits, classes, shares = examples()
    prior = torch.tensor([5.0, 2.0, 1.0]) ** (0.5 if sampler == "sqrt" else 1)
    moved = logits + tau * (prior / prior.sum()).log()
    judge = loss_of(adjust="loss", sampler=sampler, tau=tau)
    for targets in (classes, shares):
        expected = functional.cross_entropy(moved, targets, label_smoothing=0.1)
        torch.testing.assert_close(judge(logits, targets), expected)


def test_a_margin_is_taken_before_the_adjustment():
    """An angle is one of cosines, which the adjustment no longer is."""
    model, (logits, classes, _) = Model(head="arcface", margin=0.3), examples()
    cosines = logits.tanh() * model.scale
    plain, moved = loss_of(model=model), loss_of(model=model, adjust="loss")
    even = loss_of(counts=(4, 4, 4), model=model, adjust="loss")
    torch.testing.assert_close(even(cosines, classes), plain(cosines, classes))
    assert moved(cosines, classes) != plain(cosines, classes)


# Heads.


def test_bias_is_the_trained_one_less_the_log_of_the_share(runs):
    plain, moved = state(runs()), state(runs("balance.adjust=bias", "balance.tau=0.5"))
    prior = torch.tensor(list(COUNTS.values())) / sum(COUNTS.values())
    expected = plain["head.bias"] - 0.5 * prior.log()
    torch.testing.assert_close(moved["head.bias"], expected)
    assert {k for k in plain if not torch.equal(plain[k], moved[k])} == {"head.bias"}


def test_what_is_logged_is_what_is_kept(data, runs):
    run = runs("balance.adjust=bias", "balance.tau=0.5")
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["top1"] == pytest.approx(np.mean(recalls(data, run)), abs=1e-4)


def test_tau_norm_shortens_weights(runs):
    plain = state(runs())
    for power in (0.5, 1.0):
        made = state(runs("balance.classifier=tau-norm", f"balance.norm_tau={power}"))
        length = plain["head.weight"].norm(dim=1)
        torch.testing.assert_close(made["head.weight"].norm(dim=1), length ** (1 - power))
        directions = functional.cosine_similarity(made["head.weight"], plain["head.weight"])
        torch.testing.assert_close(directions, torch.ones(3))
        assert not made["head.bias"].any()
        changed = {k for k in plain if not torch.equal(plain[k], made[k])}
        assert changed == {"head.weight", "head.bias"}


def test_crt_leaves_the_backbone_and_learns_a_head_anew(runs):
    plain, made = state(runs()), state(runs("balance.classifier=crt"))
    changed = {k for k in plain if not torch.equal(plain[k], made[k])}
    assert changed == {"head.weight", "head.bias"}


def test_crt_says_what_it_reached(data, tmp_path, capsys):
    trained(data, tmp_path / "run", "balance.classifier=crt", "optimise.epochs=1")
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert last["classifier"] == "crt" and last["top1"] > 0


@pytest.mark.parametrize("head", ["linear", "cosine", "arcface"])
def test_a_head_learnt_anew_treats_classes_alike(head):
    """In one dimension: two classes that overlap, one of them rare; the border is the middle."""
    draws = np.random.default_rng(0)
    targets = [0] * 300 + [1] * 15
    x = np.where(np.array(targets) == 0, -1.0, 1.0) + draws.normal(0, 1.0, 315)
    rows = np.stack([x, np.ones(315)], 1).astype(np.float32)
    changes = ["balance.classifier=crt", f"model.head={head}", "model.dropout=0"]
    recipe = load_recipe("default", [*changes, "optimise.lr=1e-2"])
    before = torch.get_rng_state()
    made = retrained_head(rows, targets, 2, recipe)
    assert torch.equal(torch.get_rng_state(), before)
    found = np.linspace(-3, 3, 601)
    line = np.stack([found, np.ones(601)], 1).astype(np.float32)
    border = found[made(line).argmax(1).argmax()]
    assert abs(border) < 0.5  # a natural one is at log(20) / 2 = 1.5
    again = retrained_head(rows, targets, 2, recipe)
    np.testing.assert_array_equal(made.weight, again.weight)
    other = replace(recipe, optimise=replace(recipe.optimise, seed=1))
    assert (retrained_head(rows, targets, 2, other).weight != made.weight).any()


def test_nothing_to_change_is_the_network_itself():
    network = build_network(Model("teaching_cnn"), 3, pretrained=False, size=32)
    assert rebalanced(network, Balance(adjust="loss"), [3, 2, 1]) is network
    moved = rebalanced(network, Balance(adjust="bias"), [3, 2, 1])
    assert moved is not network and not network.head.bias.any()
    torch.testing.assert_close(moved.head.bias, -offsets([3, 2, 1], Balance()))


# Runs.


@pytest.mark.parametrize(
    "changes",
    [
        ("balance.sampler=balanced", "optimise.members=2"),
        ("balance.sampler=sqrt", "balance.adjust=bias", "augment.mixup=0.2"),
        ("balance.sampler=balanced", "balance.classifier=crt", "optimise.fix_epochs=1"),
        ("balance.classifier=tau-norm", "optimise.ema=0"),
    ],
    ids=" ".join,
)
def test_killed_after_any_epoch_and_resumed(data, tmp_path, changes, monkeypatch):
    from edge_fgr_train import loop

    changes = (*changes, "optimise.epochs=2")
    whole, saved = trained(data, tmp_path / "whole", *changes), loop.save_state

    def stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(data, tmp_path / "run", *changes)
    monkeypatch.setattr(loop, "save_state", saved)
    assert same(trained(data, tmp_path / "run", *changes), whole)
    assert same(trained(data, tmp_path / "run", *changes), whole)  # once more: it is over
    assert same(trained(data, tmp_path / "again", *changes), whole)


@pytest.mark.parametrize("sampler", ["sqrt", "balanced"])
def test_the_same_draws_for_the_same_seed_and_epoch_alone(data, sampler):
    samples = scan(data, ("train",))
    recipe = load_recipe("default", CHANGES)
    targets = targets_of(samples, labels_of(samples))

    def drawn(seed, epoch):
        pictures = TrainingSet(samples, targets, recipe.augment, recipe.geometry, seed)
        pictures.epoch = epoch
        return torch.cat([pixels for pixels, _ in draw_batches(pictures, 8, seed, 6, sampler)])

    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 1), drawn(0, 2))
    assert not torch.equal(drawn(0, 1), drawn(1, 1))


def test_a_run_without_the_section_is_one_that_does_nothing(runs):
    """Runs of earlier versions know no balance: they are read, and go on."""
    run = runs()
    raw = json.loads((run / "run.json").read_text())
    assert raw["recipe"].pop("balance") and Run.read(run).recipe.balance == Balance()
    (run / "run.json").write_text(json.dumps(raw))
    assert Run.read(run).recipe.balance == Balance()


def test_the_loss_is_told_the_numbers_of_images(data, tmp_path):
    class Seen(Task):
        def network(self):
            assert self._counts == list(COUNTS.values())
            return super().network()

    changes = ["balance.adjust=loss", "optimise.epochs=1"]
    trained(data, tmp_path / "a", *changes, task=Seen)
    trained(data, tmp_path / "b", *changes)
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))


# --imbalance.


def test_choices_and_their_words():
    changes, words = choose([10, 29])
    assert changes == () and "2.9 to 1" in words and "nothing is done below 3 to 1" in words
    changes, words = choose([30, 12, 10])
    assert changes == ("balance.adjust=loss", "balance.tau=1.0")
    assert "largest class 30 images, smallest 10, 3.0 to 1" in words and "\n" not in words
    assert "fewer than" not in words
    assert "2 of 3 classes have fewer than 5 images" in choose([30, 4, 1])[1]
    assert choose([1, 1])[0] == ()


def test_auto_says_and_records_what_it_chose(cli, data, tmp_path, capsys):
    changes = [*CHANGES, "optimise.epochs=1"]
    words = [word for change in changes for word in ("--set", change)]
    arguments = ["train", data, "-o", tmp_path / "run", "--device", "cpu", *words]
    result = cli(*arguments, "--imbalance", "auto")
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("imbalance:")]
    assert "largest class 32 images, smallest 4, 8.0 to 1" in line and "adjust = loss" in line
    assert Run.read(tmp_path / "run").recipe.balance == Balance(adjust="loss")
    assert "[balance]" in (tmp_path / "run" / "report.html").read_text()
    run(str(data), tmp_path / "run", "default", changes, "cpu", imbalance="auto")
    assert "resuming after epoch 1 of 1" in capsys.readouterr().err
    with pytest.raises(UsageError, match="another recipe"):
        run(str(data), tmp_path / "run", "default", changes, "cpu")


@pytest.mark.parametrize(
    ("recipe", "flag", "changes", "said"),
    [
        ("default", "some", [], "--imbalance some: auto or none"),
        ("default", "auto", ["balance.tau=2"], "leave one of them out"),
        ("chain", "auto", [], "for networks"),
    ],
)
def test_flags_that_cannot_be_meant(data, tmp_path, recipe, flag, changes, said):
    changes = [*(CHANGES if recipe == "default" else []), *changes]
    with pytest.raises(UsageError, match=said) as caught:
        run(str(data), tmp_path / "run", recipe, changes, "cpu", imbalance=flag)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_qat_has_no_use_for_it(tmp_path):
    with pytest.raises(UsageError, match="looks at no labels"):
        extras.train(tmp_path / "x", qat=tmp_path, imbalance="auto")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["sampler=rare"], "is none of"),
        (["samplers=sqrt"], "unknown key"),
        (["beta=1"], "beta must be"),
        (["beta=-0.1"], "beta must be"),
        (["gamma=-1"], "gamma must be"),
        (["tau=0"], "tau must be"),
        (["norm_tau=1.5"], "norm_tau must be"),
        (["crt_epochs=0"], "crt_epochs must be"),
        (["loss=class-balanced", "sampler=balanced"], "choose one of them"),
        (["loss=class-balanced", "sampler=sqrt"], "choose one of them"),
        (["loss=class-balanced", "adjust=loss"], "choose one of them"),
        (["adjust=loss", "sampler=balanced"], "nothing to do where sampler is balanced"),
        (["adjust=bias", "sampler=balanced"], "nothing to do where sampler is balanced"),
        (["adjust=bias", "classifier=crt"], "that crt has balanced"),
        (["adjust=loss", "classifier=tau-norm"], "nothing else has balanced"),
        (["sampler=sqrt", "classifier=tau-norm"], "nothing else has balanced"),
    ],
)
def test_sections_that_cannot_be_meant(changes, said):
    with pytest.raises(UsageError, match=said) as caught:
        load_recipe("default", [f"balance.{change}" for change in changes])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["balance.classifier=crt", "model.refit=whitened"], "needs model.refit none"),
        (["balance.classifier=tau-norm", "model.refit=whitened"], "needs model.refit none"),
        (["balance.adjust=bias", "model.refit=whitened"], "treats all classes alike"),
        (["balance.classifier=tau-norm", "model.head=cosine"], "needs model.head linear"),
        (["balance.classifier=tau-norm", "model.head=arcface"], "needs model.head linear"),
    ],
)
def test_sections_that_contradict_the_model(changes, said):
    with pytest.raises(UsageError, match=said):
        load_recipe("default", changes)


def test_chains_weigh_classes_by_themselves():
    with pytest.raises(UsageError, match=r"chain\.balanced"):
        load_recipe("chain", ["balance.adjust=loss"])
    assert isinstance(load_recipe("chain"), Recipe)


def test_numbers_stay_finite_for_one_image_in_a_million():
    counts = [10**6, 1]
    assert torch.isfinite(class_weights(counts, 0.9999)).all()
    assert offsets(counts, Balance()).tolist() == pytest.approx([0, math.log(1e-6)], abs=1e-5)
