"""Ablations: the committed plan, real runs of a small network, and the table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from small_models import truth_of

from edge_fgr.errors import UsageError
from edge_fgr_bench.ablate import PLAN, main
from edge_fgr_bench.ablate_one import nll
from edge_fgr_bench.ablation import Plan, Result, Work, images_for
from edge_fgr_bench.ablation_table import to_markdown
from edge_fgr_train.dataset import read_list
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.index import read_index
from edge_fgr_train.recipe import load_recipe
from pictures import opened

TINY = """
[base]
recipe = "teaching"
set = ["optimise.epochs=1", "optimise.batch=8"]
[[data]]
name = "two"
folder = "data"
classes = "two.txt"
[[data]]
name = "halved"
folder = "data"
halves = true
[[variant]]
name = "base"
what = "as it is"
[[variant]]
name = "mixup"
what = "mixed pictures"
set = ["augment.mixup=0.2"]
[[variant]]
name = "frozen"
what = "what this network cannot"
set = ["model.frozen=1"]
"""


@pytest.fixture(scope="module")
def place(photos, tmp_path_factory):
    """A plan and a data set: fruit, packages and vegetables, and smaller copies as val."""
    folder = tmp_path_factory.mktemp("ablate")
    for photo in photos:
        label = truth_of(photo)[0]
        for split in ("train", "val", "test"):
            (folder / "data" / split / label).mkdir(parents=True, exist_ok=True)
        (folder / "data" / "train" / label / photo.name).write_bytes(photo.read_bytes())
        picture = opened(photo)
        small = picture.resize((picture.width // 2, picture.height // 2))
        small.save(folder / "data" / "val" / label / photo.name, quality=90)
        (folder / "data" / "test" / label / photo.name).write_bytes(b"must not be opened")
    (folder / "plan.toml").write_text(TINY)
    (folder / "two.txt").write_text("# of three\nPackages\nVegetables\n")
    return folder


def test_the_committed_plan_can_be_run(tmp_path):
    plan = Plan.read(PLAN)
    for data in plan.data:
        for variant in plan.variant:
            recipe = load_recipe(plan.base.recipe, Work(plan, data, variant, 7).changes(tmp_path))
            assert recipe.optimise.seed == 7 and recipe.geometry.size == 160
            assert recipe.data.fit == ("train",) and recipe.data.evaluate == "val"
    whole = [Work(plan, plan.data[0], variant, 0).changes(tmp_path) for variant in plan.variant]
    assert len(set(whole)) == len(whole)
    (listed,) = (data.classes for data in plan.data if data.classes)
    assert len(read_list(PLAN.with_name(listed))) == 27


def test_runs_end_on_disk_failures_in_one_line_and_nothing_runs_twice(place, tmp_path, capsys):
    run = [str(place), str(tmp_path), "--plan", str(place / "plan.toml"), "--seeds", "0"]
    assert main([*run, "--set-of", "two"]) == 1
    told = capsys.readouterr().err
    assert "two frozen 0: failed: recipe: model.frozen is for EfficientNets" in told
    assert "1 of 3 runs failed" in told
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")}
    assert found >= {"two/base/0.json", "two/mixup/0.json"}
    assert not list(tmp_path.rglob("model.safetensors"))  # weights are not kept
    plan = Plan.read(place / "plan.toml")
    base, mixup = (Work(plan, plan.data[0], plan.variant[i], 0) for i in range(2))
    result = base.result(tmp_path)
    assert result is not None and result.changes == base.changes(tmp_path)
    assert (result.fitted, result.judged) == (12, 12)
    assert 0 <= result.top1 <= 1 and result.seconds > 0 and result.threads >= 1
    assert mixup.result(tmp_path) != result

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0.json")}
    assert main([*run, "--set-of", "two", "--variant", "mixup"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0.json")} == before
    capsys.readouterr()
    assert main([*run, "--table"]) == 0
    table = capsys.readouterr().out
    assert "| mixup | mixed pictures |" in table
    assert "Not run, or with other changes than now: frozen." in table
    assert "Not run, or with other changes than now: base, mixup, frozen." in table


def test_a_variant_learns_from_another(place, tmp_path, capsys):
    text = TINY + '\n[[variant]]\nname = "taught"\nwhat = "by mixup"\nteacher = "mixup"\n'
    path = tmp_path / "plan.toml"
    path.write_text(text)
    (tmp_path / "two.txt").write_bytes((place / "two.txt").read_bytes())
    run = [str(place), str(tmp_path / "out"), "--plan", str(path), "--seeds", "0"]
    run += ["--set-of", "two", "--variant", "taught"]
    assert main(run) == 2
    assert "learns from mixup, which is not run; add --variant mixup" in capsys.readouterr().err
    assert main([*run, "--variant", "mixup"]) == 0
    plan = Plan.read(path)
    taught = Work(plan, plan.data[0], plan.named("taught"), 0)
    result = taught.result(tmp_path / "out")
    assert result is not None and str(tmp_path / "out" / "two" / "mixup") in result.changes[-1]
    kept = {file.parent.parent.name for file in tmp_path.rglob("model.safetensors")}
    assert kept == {"mixup"}
    path.write_text(text.replace('teacher = "mixup"', 'teacher = "nobody"'))
    assert main(run) == 2
    assert "nobody is no variant that can teach" in capsys.readouterr().err


def test_a_result_of_other_changes_does_not_count(place, tmp_path):
    plan = Plan.read(place / "plan.toml")
    work = Work(plan, plan.data[0], plan.variant[1], 0)
    work.file(tmp_path).parent.mkdir(parents=True)
    work.file(tmp_path).write_text(json.dumps(asdict(_result(work, tmp_path, 0.5, 1.0))))
    assert work.result(tmp_path) is not None
    edited = replace(work, variant=replace(work.variant, set=("augment.mixup=0.4",)))
    assert edited.result(tmp_path) is None


def test_images_are_those_of_the_plan_and_duplicates_stay_in_one_half(place, tmp_path):
    two, halved = Plan.read(place / "plan.toml").data
    samples = read_index(images_for(two, place, place, tmp_path))
    assert {sample.label for sample in samples} == {("Packages",), ("Vegetables",)}
    assert len(samples) == 24

    samples = read_index(images_for(halved, place, place, tmp_path))
    assert len(samples) == 64 and {sample.split for sample in samples} == {"train", "val"}
    halves = {}
    for sample, group in zip(samples, groups_of(samples), strict=True):
        halves.setdefault(group, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in halves.values()) and len(halves) <= 32

    assert images_for(two, place, place, tmp_path) == tmp_path / "two.csv"  # the same again
    (tmp_path / "thin").mkdir()
    thinned = read_index(images_for(replace(two, every=2), place, place, tmp_path / "thin"))
    assert [s for s in thinned if s.split == "val"] == [
        replace(s, name=s.name) for s in read_index(tmp_path / "two.csv") if s.split == "val"
    ]
    kept = [s.path for s in thinned if s.split == "train"]
    everything = [s for s in read_index(tmp_path / "two.csv") if s.split == "train"]
    for label in {s.label for s in everything}:
        own = [s.path for s in everything if s.label == label]
        assert [path for path in kept if path in own] == own[::2]
    with pytest.raises(UsageError, match="results of other images of two"):
        images_for(replace(two, classes=""), place, place, tmp_path)
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "list.txt").write_text("Packages\nMeat\n")
    with pytest.raises(UsageError, match="train: lacks the class Meat"):
        images_for(replace(two, classes="list.txt"), place, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('what = "as it is"', 'why = "?"', "unknown key 'why'"),
        ('name = "mixup"', 'name = "base"', "base is there twice"),
        ('name = "base"', 'name = "plain"', "a variant named base is needed"),
        ('name = "two"', 'name = "../two"', "is no name"),
        ("mixup=0.2", "mix=0.2", "unknown key 'mix'"),
    ],
)
def test_plans_are_read_strictly(place, tmp_path, capsys, old, new, told):
    path = tmp_path / "plan.toml"
    path.write_text(TINY.replace(old, new, 1))
    (tmp_path / "two.txt").write_bytes((place / "two.txt").read_bytes())
    assert main([str(place), str(tmp_path / "out"), "--plan", str(path)]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # nothing was begun


def test_strange_names_are_refused(place, tmp_path, capsys):
    run = [str(place), str(tmp_path), "--plan", str(place / "plan.toml")]
    assert main([*run, "--variant", "cutmix"]) == 2
    assert "known: base, mixup, frozen" in capsys.readouterr().err
    assert main([*run, "--seeds", "0;1"]) == 2
    assert main([*run, "--jobs", "0"]) == 2


def test_the_table_compares_equal_seeds_and_hides_nothing(place, tmp_path):
    plan = Plan.read(place / "plan.toml")
    base, mixup, frozen = plan.variant
    figures = {
        base: [(0.80, 1.0), (0.90, 2.0), (0.70, 3.0)],
        mixup: [(0.81, 1.1), (0.92, 2.3)],
        frozen: [(0.75, 0.5)],
    }
    for variant, found in figures.items():
        for seed, (top1, surprise) in enumerate(found):
            work = Work(plan, plan.data[0], variant, seed)
            work.file(tmp_path).parent.mkdir(parents=True, exist_ok=True)
            result = replace(
                _result(work, tmp_path, top1, surprise), seconds=10.0 + 5 * (variant == mixup)
            )
            work.file(tmp_path).write_text(json.dumps(asdict(result)))
    text = to_markdown(plan, tmp_path, plan.data[:1], plan.variant, range(3))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| base | as it is | 80.00 ± 10.00 (3) |  | 2.0000 ± 1.0000 |  | 1.00 |",
        "| frozen | what this network cannot | 75.00 (1) | -5.00 | 0.5000 | -0.5000 | 1.00 |",
        "| mixup | mixed pictures | 86.50 ± 7.78 (2) | +1.50 ± 0.71 | 1.7000 ± 0.8485 "
        "| +0.2000 ± 0.1414 | 1.50 |",
    ]
    assert "one of these is 0.50 points" in text


def test_nll_is_the_mean_surprise():
    logits = np.log(np.array([[0.5, 0.5], [0.2, 0.8]], np.float32))
    assert nll(logits, [0, 1]) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, abs=1e-6)
    assert nll(2 * logits, [0, 1], 2.0) == pytest.approx(nll(logits, [0, 1]), abs=1e-6)


def _result(work, out, top1, surprise):
    return Result(
        recipe=work.plan.base.recipe,
        changes=work.changes(out),
        fitted=100,
        judged=200,
        top1=top1,
        nll=surprise,
        temperature=1.0,
        seconds=10.0,
        threads=1,
    )
