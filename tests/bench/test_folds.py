"""Cross-validation of a trained network: real trainings of a small one, figures by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_fgr.errors import UsageError
from edge_fgr.model import open_model
from edge_fgr_bench.fold_figures import Answers, figures_of, limit_of
from edge_fgr_bench.folds import main
from edge_fgr_bench.grouped import folds_of, macro_interval, macro_recall
from edge_fgr_export.parity import logits_of
from edge_fgr_train.dataset import scan
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.index import read_index
from pictures import opened

SET = ["optimise.epochs=1", "optimise.batch=8"]


def arguments(data, out, *more):
    changes = [word for change in SET for word in ("--set", change)]
    return [str(data), str(out), "--recipe", "teaching", "--count", "2", *changes, *more]


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """Three classes in two splits; a smaller copy of some pictures stands in the other split."""
    root = tmp_path_factory.mktemp("folds")
    for i, photo in enumerate(photos):
        label = photo.name.split("_")[0]
        for split in ("train", "test"):
            (root / split / label).mkdir(parents=True, exist_ok=True)
        (root / "train" / label / photo.name).write_bytes(photo.read_bytes())
        if i % 4 == 0:
            picture = opened(photo)
            small = picture.resize((picture.width // 2, picture.height // 2))
            small.save(root / "test" / label / photo.name, quality=90)
    return root


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main(arguments(data, out, "--json")) == 0
    return out


def test_every_image_is_answered_once_by_a_model_that_never_saw_its_like(data, made):
    samples = scan(data, ("train", "test"))
    group = dict(zip((s.path for s in samples), groups_of(samples), strict=True))
    assert len(set(group.values())) <= len(samples) - 8
    answered = []
    for home in (made / "0", made / "1"):
        parts = {split: [] for split in ("train", "test")}
        for sample in read_index(home / "index.csv"):
            parts[sample.split].append(sample)
        assert {s.label for s in parts["train"]} == {s.label for s in samples}
        kept, held = ({group[s.path] for s in part} for part in parts.values())
        assert not kept & held
        model = open_model(home / "model.onnx", device="cpu")
        assert model.contract.target == "portable"
        paths = [sample.path for sample in parts["test"]]
        with np.load(home / "answers.npz") as found:
            again = logits_of(model, paths, model.contract.geometry)
            assert np.array_equal(found["logits"], again)
            labels = [model.contract.labels[i] for i in found["truth"]]
            assert labels == [sample.label for sample in parts["test"]]
            answered += found["names"].tolist()
    assert sorted(answered) == [s.name for s in sorted(samples)]


def test_what_is_finished_is_not_done_again(data, made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.onnx")}
    kept = (made / "0" / "answers.npz").read_bytes()
    (made / "0" / "answers.npz").unlink()
    assert main(arguments(data, made, "--good", "Fruit", "--json")) == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.onnx")} == before
    assert (made / "0" / "answers.npz").read_bytes() == kept
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 40 and figures["groups"] <= 32
    assert sum(figures["fold_errors"]) == round(40 * (1 - figures["top1"]["value"]))
    assert sum(one["images"] for one in figures["recalls"]) == 40
    assert [one["label"] for one in figures["defects"]["missed"]] == ["Packages", "Vegetables"]
    assert main(arguments(data, made, "--good", "Fruit")) == 0
    assert "Fruit against others" in capsys.readouterr().out


def test_how_alike_near_duplicates_are(data, tmp_path, capsys):
    samples = scan(data, ("train", "test"))
    counts = [len(set(groups_of(samples, bits))) for bits in (0, 10, 64)]
    assert counts[0] >= counts[1] > counts[2] == 3  # in the end all that bear one label
    assert main(arguments(data, tmp_path / "out", "--alike", "65")) == 2
    assert "--alike 65" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_other_folds_and_strange_classes_are_refused(data, made, tmp_path, capsys):
    assert main(arguments(data, made, "--set", "optimise.epochs=2")) == 2
    assert "use a new folder" in capsys.readouterr().err
    assert main(arguments(data, made, "--good", "Free")) == 2
    assert "known: Fruit, Packages, Vegetables" in capsys.readouterr().err
    assert main(arguments(data, tmp_path, "--count", "1")) == 2
    assert "1 folds: cannot be made" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_failed_training_is_one_line_and_leaves_no_answers(data, tmp_path, capfd):
    assert main(arguments(data, tmp_path, "--set", "model.frozen=1")) == 78
    told = capfd.readouterr().err.splitlines()
    assert "train failed, its own words stand above" in told[-1]
    assert "model.frozen is for EfficientNets" in told[-2]
    assert not list(tmp_path.rglob("answers.npz"))


def test_folds_of_repeats_itself_and_parts_no_group():
    truth = np.arange(40) % 2
    groups = np.arange(40) // 4 * 2 + truth  # two of a class each
    folds = folds_of(truth, groups, 5)
    assert all(not {*groups[a]} & {*groups[b]} for a, b in folds)
    assert sorted(i for _, own in folds for i in own) == list(range(40))
    for one, other in zip(folds, folds_of(truth.tolist(), groups.tolist(), 5), strict=True):
        assert np.array_equal(one[1], other[1])
    with pytest.raises(UsageError, match="50 folds"):
        folds_of(truth, groups, 50)


def test_macro_recall_counts_classes_alike():
    truth, answers = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert macro_recall(truth, answers) == pytest.approx((2 / 3 + 1) / 2)
    low, high = macro_interval(truth, answers, np.arange(4))
    assert low <= macro_recall(truth, answers) <= high


def test_the_lowest_limit_that_rejects_few_enough():
    good = np.arange(40) / 40
    assert limit_of(good) == 37 / 40  # two of 40 lie above
    assert limit_of(good[:19]) == 18 / 40  # one of 19 would be too many
    assert limit_of(np.ones(40)) == 1.0  # equal scores are accepted together


def test_defects_by_hand():
    """Fold 0 scores all images lower, so that a limit from elsewhere fits neither."""
    score = np.array(
        [*np.linspace(0.1, 0.2, 20), *np.linspace(0.5, 0.6, 20), 0.15, 0.3, 0.58, 0.9, 0.9]
    )
    truth = np.array([0] * 40 + [1, 1, 2, 2, 2])
    fold = np.array([0] * 20 + [1] * 20 + [0, 0, 1, 1, 1])
    rest = np.log(score / 2)  # the other two share what is left
    logits = 3.0 * np.column_stack([np.log(1 - score), rest, rest])
    groups = np.arange(45)
    answers = Answers(("good", "a", "b"), truth, groups, fold, logits, np.full(45, 3.0))
    figures = figures_of(answers, "good")
    found = figures.defects
    assert found is not None
    wins = (score[40:, None] > score[None, :40]).mean()
    assert found.auc == pytest.approx(wins, abs=1e-9)
    # Pooled, two good ones may be rejected: the third largest is the limit, just below 0.59.
    assert found.pooled.good_rejected.value == 2 / 40
    assert found.pooled.missed.value == 3 / 5
    assert [(one.label, one.share.value) for one in found.missed] == [("a", 1.0), ("b", 1 / 3)]
    # From the other fold: 0.595 rejects nothing of fold 0; 0.195 rejects all of fold 1.
    assert found.fitted_apart.good_rejected.value == 20 / 40
    assert found.fitted_apart.missed.value == 2 / 5
    assert figures.fold_top1 == (pytest.approx(20 / 22), pytest.approx(20 / 23))
    assert figures_of(answers).defects is None
