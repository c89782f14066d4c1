"""The few-shot benchmark: real trainings of small ones, draws that are kept, what is refused."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from edge_fgr_bench.draws import drawn, read_draws
from edge_fgr_bench.shots import main
from edge_fgr_train.checkpoint import Run
from edge_fgr_train.index import read_index
from pictures import opened

SET = [
    "model.backbone=teaching_cnn", "geometry.size=32", "augment.size=32", "optimise.epochs=1",
    "model.dropout=0",
]  # fmt: skip


def arguments(data, out, *more):
    changes = [word for change in SET for word in ("--set", change)]
    return [str(data), str(out), "--shots", "2", "--draws", "2", "--recipe", "default", *changes,
            *map(str, more)]  # fmt: skip


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """Three classes; cuts of some photographs are judged."""
    root = tmp_path_factory.mktemp("few")
    for i, photo in enumerate(photos):
        label = photo.name.split("_")[0]
        for split in ("train", "val"):
            (root / split / label).mkdir(parents=True, exist_ok=True)
        (root / "train" / label / photo.name).write_bytes(photo.read_bytes())
        if i % 3 == 0:
            opened(photo).crop((20, 20, 300, 300)).save(root / "val" / label / photo.name)
    return root


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main(arguments(data, out, "--json")) == 0
    return out


def test_each_draw_is_fitted_and_every_image_judged(data, made):
    draws = drawn(str(data), 2, 2)
    assert draws[0] != draws[1]
    for k, names in enumerate(draws):
        rows = read_index(made / str(k) / "index.csv")
        fit = {str(one.path.relative_to(data)) for one in rows if one.split == "train"}
        assert fit == set(names) and len(fit) == 6
        run = Run.read(made / str(k) / "run")
        assert (run.recipe.data.shots, len(run.fit), run.evaluate) == (2, 6, ())
        with np.load(made / str(k) / "answers.npz") as found:
            assert found["logits"].shape == (11, 3) and len(set(found["names"].tolist())) == 11


def test_what_is_finished_is_not_done_again(data, made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("model.safetensors")}
    with np.load(made / "1" / "answers.npz") as found:
        kept = dict(found)
    (made / "1" / "answers.npz").unlink()
    assert main(arguments(data, made, "--json")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with np.load(made / "1" / "answers.npz") as found:
        assert np.array_equal(found["logits"], kept["logits"])
    figures = json.loads(capsys.readouterr().out)
    right = (kept["logits"].argmax(1) == kept["truth"]).mean()
    assert figures["top1"][1] == pytest.approx(right)
    assert figures["mean"] == pytest.approx(np.mean(figures["top1"]))
    assert figures["sd"] == pytest.approx(np.std(figures["top1"], ddof=1))
    assert (figures["shots"], figures["images"], figures["split"]) == (2, 11, "val")
    assert figures["baseline"] == [] and figures["baseline_mean"] is None  # it starts from chance


def test_a_chain_beside_its_baseline(data, tmp_path, capfd):
    draws = tmp_path / "draws.json"
    assert main([str(data), str(draws), "--write", "--shots", "2", "--draws", "1"]) == 0
    assert read_draws(str(draws)) == drawn(str(data), 2, 1)
    words = [str(data), str(tmp_path / "out"), "--list", str(draws), "--head", "cosine",
             "--set", "geometry.size=64"]  # fmt: skip
    assert main(words) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "2 images a class; 11 images of val, top-1"
    assert "nearest class mean on frozen features" in lines[1] and "none" not in lines[2]
    assert main([*words[:-3], "svm", *words[-2:]]) == 2
    assert "use a new folder" in capfd.readouterr().err


def test_the_committed_draws():
    draws = read_draws("flowers17")
    assert len(draws) == 5
    for names in draws:
        assert len(set(names)) == 85
        assert set(Counter(name.split("/")[1] for name in names).values()) == {5}
        assert all(name.startswith("train/") for name in names)


@pytest.mark.parametrize(
    ("more", "says", "code"),
    [
        (["--shots", "20"], "give at most", 2),
        (["--shots", "0"], "at least one image", 2),
        (["--draws", "0"], "--draws 0: at least one", 2),
        (["--split", "train"], "is what draws are taken from", 2),
        (["--split", "test"], "test", 66),
        (["--list", "gone.json"], "no such list of draws", 66),
        (["--list", "broken.json"], "no list of draws", 2),
        (["--list", "other.json"], "lacks train/x.jpg", 66),
        (["--list", "uneven.json"], "equally many images of every class", 2),
        (["--set", "model.frozen=1"], "use a new folder", 2),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(data, made, tmp_path, monkeypatch, capsys, more, says, code):
    monkeypatch.chdir(tmp_path)
    names = drawn(str(data), 2, 1)[0]
    (tmp_path / "broken.json").write_text("[1]")
    (tmp_path / "other.json").write_text(json.dumps({"draws": [["train/x.jpg"]]}))
    (tmp_path / "uneven.json").write_text(json.dumps({"draws": [names[:-1]]}))
    assert main(arguments(data, made, *more)) == code
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_failed_training_is_one_line(data, tmp_path, capfd):
    assert main(arguments(data, tmp_path, "--set", "model.frozen=1")) == 78
    told = capfd.readouterr().err.splitlines()
    assert "train failed, its own words stand above" in told[-1]
    assert not list(tmp_path.rglob("answers.npz"))
