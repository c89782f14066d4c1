"""Few shots: which images are drawn, heads of class means, and the baseline beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trees import place

from edge_fgr.errors import UsageError
from edge_fgr_train.chain import decisions, fit_chain, fold
from edge_fgr_train.checkpoint import Run, load_network
from edge_fgr_train.command import run
from edge_fgr_train.dataset import Sample, scan
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.embedder import open_embedder
from edge_fgr_train.nearest import frozen_source, hits, nearest_mean
from edge_fgr_train.parts import split_again, split_of
from edge_fgr_train.prototypes import HEADS, Cosine, Prototype
from edge_fgr_train.recipe import Chain, load_recipe
from edge_fgr_train.scales import WithinScale
from edge_fgr_train.shots import draw_shots
from edge_fgr_train.views import embed_views
from pictures import opened

SMALL = [
    "model.backbone=teaching_cnn", "geometry.size=32", "augment.size=32", "optimise.epochs=1",
    "model.dropout=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """Two classes of five scenes; the first scene of each comes three times, hardly changed."""
    root = tmp_path_factory.mktemp("shots")
    for label, chosen in (("a", photos[:5]), ("b", photos[10:15])):
        for i, photo in enumerate(chosen):
            place(photo, root, label, f"{i}.jpg")
        for quality in (60, 80):
            opened(chosen[0]).save(root / label / f"0-{quality}.jpg", quality=quality)
    return root


def names(drawn):
    return [sample.name for sample in drawn]


def test_a_draw_repeats_itself_and_depends_on_its_seed(data):
    samples = scan(data)
    drawn = draw_shots(samples, 3, 0)
    assert names(drawn) == names(draw_shots(samples[::-1], 3, 0)[::-1])
    assert [sample.label for sample in drawn] == [("a",)] * 3 + [("b",)] * 3
    assert len({tuple(names(draw_shots(samples, 3, seed))) for seed in range(8)}) > 4
    assert set(names(draw_shots(samples, 2, 0))) < set(names(drawn))


def test_another_image_changes_no_other_class(data, photos, tmp_path):
    samples = scan(data)
    more = [*samples, Sample("b/z.jpg", place(photos[20], tmp_path, "z.jpg"), ("b",))]
    for seed in range(4):
        first, second = (
            [sample for sample in draw_shots(part, 3, seed) if sample.label == ("a",)]
            for part in (samples, more)
        )
        assert first == second


def test_near_duplicates_come_last(data):
    samples = scan(data)
    group = dict(zip(names(samples), groups_of(samples), strict=True))
    assert len(set(group.values())) == 10
    for seed in range(6):
        drawn = [group[name] for name in names(draw_shots(samples, 5, seed))]
        assert len(set(drawn)) == 10  # every scene once, though seven files could be drawn
        assert len(draw_shots(samples, 6, seed)) == 12  # where scenes run out, a second one


@pytest.mark.parametrize(
    ("shots", "says"), [(8, "a has 7 images to fit; give at most 7"), (0, "at least one")]
)
def test_too_many_and_too_few(data, shots, says):
    with pytest.raises(UsageError, match=says):
        draw_shots(scan(data), shots)


def test_the_smallest_class_is_named(data, photos, tmp_path):
    lone = Sample("c/1.jpg", place(photos[20], tmp_path, "1.jpg"), ("c", "d"))
    with pytest.raises(UsageError, match="c/d has 1 images to fit; give at most 1"):
        draw_shots([*scan(data), lone], 2)


@pytest.mark.parametrize(("key", "says"), [("shots=-1", "data.shots"), ("draw=-1", "data.draw")])
def test_recipes_refuse(key, says):
    with pytest.raises(UsageError, match=says):
        load_recipe("default", [f"data.{key}"])


def test_the_recipe_decides_what_is_fitted(tiny):
    where = str(tiny / "tiny.toml")
    whole = split_of(tiny / "data", load_recipe(where), where)
    few = split_of(tiny / "data", load_recipe(where, ["data.shots=2", "data.draw=1"]), where)
    assert names(few.fit) == names(draw_shots(whole.fit, 2, 1))
    assert few.evaluate == whole.evaluate and few.calibration == whole.calibration
    with pytest.raises(UsageError, match="--shots 9"):
        split_of(tiny / "data", load_recipe(where, ["data.shots=9"]), where)


def test_a_run_keeps_to_its_draw(tiny, tmp_path, cli):
    arguments = ["train", tiny / "data", "--recipe", tiny / "tiny.toml", "--device", "cpu",
                 *(word for change in SMALL for word in ("--set", change))]  # fmt: skip
    made = cli(*arguments, "-o", tmp_path / "run", "--shots", "2", "--set", "data.draw=3")
    assert made.returncode == 0, made.stderr
    assert "6 images of 3 classes to fit" in made.stderr
    kept = Run.read(tmp_path / "run")
    assert (kept.recipe.data.shots, kept.recipe.data.draw) == (2, 3)
    again = split_again(kept, None, "")
    whole = split_of(tiny / "data", load_recipe(str(tiny / "tiny.toml")), str(tiny / "tiny.toml"))
    assert names(again.fit) == list(kept.fit) == names(draw_shots(whole.fit, 2, 3))
    other = cli(*arguments, "-o", tmp_path / "run", "--shots", "2")
    assert other.returncode == 2 and "another recipe or data" in other.stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--shots", "0"], "at least one image of each class"),
        (["--shots", "40"], "give at most"),
        (["--shots", "2", "--qat", "run"], "leave --recipe"),
    ],
)
def test_the_command_line_refuses(tiny, tmp_path, cli, more, says):
    result = cli("train", tiny / "data", "-o", tmp_path / "run", *more)
    assert result.returncode == 2 and says in result.stderr
    assert not (tmp_path / "run").exists()


def test_shots_alone_take_their_own_recipe(tiny, tmp_path, cli):
    """Also on a model: the recipe is a chain."""
    made = cli("train", tiny / "data", "-o", tmp_path / "run", "--shots", "2", "-m", tiny / "run",
               "--device", "cpu", "--set", "chain.views=1")  # fmt: skip
    assert made.returncode == 0, made.stderr
    kept = Run.read(tmp_path / "run").recipe
    assert (kept.name, kept.data.shots, kept.model.pool) == ("few-shots", 2, "mean")
    assert kept.model.mirrors == 1


@pytest.fixture(scope="module")
def clouds():
    """Four classes in 24 dimensions; one direction varies ten times as much within classes."""
    draws = np.random.default_rng(0)
    centres = draws.normal(0, 1.5, (4, 24))
    targets = np.repeat(np.arange(4), 60)
    spread = np.where(np.arange(24) < 4, 5.0, 0.5)
    rows = centres[targets] + draws.normal(0, 1, (240, 24)) * spread + 3
    return rows, targets


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("classes", [2, 4])
def test_heads_of_means_fold_to_one_product(clouds, head, classes):
    rows, targets = (part[clouds[1] < classes] for part in clouds)
    fitted = fit_chain(rows, targets.tolist(), range(len(rows)), Chain(head, folds=3))
    weight, bias = fold(fitted.pipeline)
    exact = decisions(fitted.pipeline, rows)
    np.testing.assert_allclose(rows @ weight.T + bias, exact, atol=1e-6)
    assert weight.shape == (classes, 24) and fitted.c == 1
    assert np.array_equal(exact.argmax(1), fitted.pipeline.predict(rows))


def test_a_prototype_is_the_nearest_mean_by_distance(clouds):
    rows, targets = clouds
    head = Prototype().fit(rows, targets)
    means = np.stack([rows[targets == c].mean(0) for c in range(4)])
    distances = np.square(rows[:, None] - means).sum(2)
    np.testing.assert_array_equal(head.predict(rows), distances.argmin(1))
    gaps = head.decision_function(rows)
    ratio = (gaps[:, 0] - gaps[:, 1]) / (distances[:, 1] - distances[:, 0])
    np.testing.assert_allclose(ratio, ratio[0])  # logits differ as distances do
    far = np.array([[0.0, 1.0], [0.0, 1.2], [0.0, 9.0], [0.0, 9.2]])
    line = [Head().fit(far, np.array([0, 0, 1, 1])) for Head in (Prototype, Cosine)]
    assert line[0].predict(np.array([[0.0, 4.0]])) == 0
    assert line[0].predict(np.array([[0.0, 6.0]])) == 1


def test_whitening_looks_past_what_varies_within_classes(clouds):
    rows, targets = clouds
    few = np.flatnonzero(np.arange(240) % 60 < 12)
    right = {
        name: (Head().fit(rows[few], targets[few]).predict(rows) == targets).mean()
        for name, Head in HEADS.items()
    }
    assert right["whitened"] > right["cosine"] + 0.02
    assert right["whitened"] > right["prototype"] + 0.02


@pytest.mark.parametrize("head", list(HEADS))
def test_one_image_a_class_is_enough(clouds, head):
    rows, targets = clouds
    first = np.arange(4) * 60
    fitted = fit_chain(rows[first] * 1e3, targets[first].tolist(), range(4), Chain(head))
    weight, bias = fold(fitted.pipeline)
    assert np.isfinite(weight).all() and np.isfinite(bias).all()
    assert (decisions(fitted.pipeline, rows[first] * 1e3).argmax(1) == range(4)).all()


def test_a_scale_that_makes_classes_round(clouds):
    rows, targets = clouds
    few = np.flatnonzero(np.arange(240) % 60 < 4)
    x, own = rows[few], targets[few]
    right = {}
    for scale in ("all", "within"):
        rules = Chain("logreg", scale=scale, c=(0.01,), folds=3)
        fitted = fit_chain(x, own.tolist(), range(len(x)), rules)
        weight, bias = fold(fitted.pipeline)
        exact = decisions(fitted.pipeline, rows)
        np.testing.assert_allclose(rows @ weight.T + bias, exact, atol=1e-8)
        right[scale] = (exact.argmax(1) == targets).mean()
    assert right["within"] > right["all"] + 0.1
    seen = WithinScale().fit(rows, targets).transform(rows)
    assert seen.var(0).mean() == pytest.approx(1) and seen.mean(0) == pytest.approx(0, abs=1e-9)
    spread = []
    for part in (rows, seen):
        means = np.stack([part[targets == c].mean(0) for c in range(4)])
        spread.append(np.linalg.eigvalsh(np.cov((part - means[targets]).T)))
    assert spread[1][-1] / spread[1][0] < 0.2 * spread[0][-1] / spread[0][0]


def test_views_teach_and_are_not_judged(clouds):
    """Copies say in which directions a class varies, which one image does not."""
    rows, targets = clouds
    draws = np.random.default_rng(1)
    spread = np.where(np.arange(24) < 4, 5.0, 0.5)
    few = np.flatnonzero(np.arange(240) % 60 < 2)
    views = rows[few][:, None] + draws.normal(0, 1, (len(few), 30, 24)) * spread
    rules = Chain("logreg", scale="all", c=(0.1,), folds=2)
    own = targets[few].tolist()
    plain, taught = (
        fit_chain(rows[few], own, range(len(few)), rules, more) for more in (None, views)
    )
    right = [(fitted.pipeline.predict(rows) == targets).mean() for fitted in (plain, taught)]
    assert right[1] > right[0] + 0.05
    assert sorted(taught.left_out.tolist()) == list(range(len(few)))
    assert taught.logits.shape == (len(few), 4)
    none = fit_chain(rows[few], own, range(len(few)), rules, np.empty((len(few), 0, 24)))
    assert np.array_equal(fold(none.pipeline)[0], fold(plain.pipeline)[0])


def test_views_repeat_themselves_and_change_with_the_seed(tiny):
    where = str(tiny / "tiny.toml")
    changes = ["model.backbone=teaching_cnn", "geometry.size=32", "chain.views=2"]
    recipe = load_recipe(where, changes)
    samples = split_of(tiny / "data", recipe, where).fit[:5]
    source = open_embedder(str(tiny / "run"))
    views = embed_views(source, samples, recipe)
    assert views.shape == (5, 2, 1280) and views.dtype == np.float32
    assert np.array_equal(views, embed_views(source, samples, recipe))
    assert not np.array_equal(views[:, 0], views[:, 1])
    other = load_recipe(where, [*changes, "optimise.seed=1"])
    assert not np.array_equal(views, embed_views(source, samples, other))
    none = load_recipe(where, [*changes[:2], "chain.views=0"])
    assert embed_views(source, samples, none).shape[:2] == (5, 0)
    with pytest.raises(UsageError, match="views must be from 0 to 64"):
        load_recipe(where, ["chain.views=65"])


def test_nearest_means_by_hand():
    known = np.array([[2.0, 0.0], [1.0, 0.2], [0.0, 3.0], [0.1, 1.0]])
    rows = np.array([[9.0, 1.0], [1.0, 9.0], [9.0, 1.0]])
    assert hits(known, [0, 0, 1, 1], rows, [0, 1, 1]).tolist() == [True, True, False]
    assert hits(known, [0, 0, 1, 1]).tolist() == [True] * 4
    # Left out of its own mean, either of the first two has but the other, which is far.
    known = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
    assert hits(known, [0, 0, 1, 1]).tolist() == [False, False, True, True]


def test_a_chain_says_its_baseline(tiny, tmp_path, capsys):
    changes = ["data.shots=1", "geometry.size=64", "chain.views=2", 'chain.head="prototype"']
    run(str(tiny / "data"), tmp_path / "run", "few-shots", changes, "cpu")
    told = capsys.readouterr().err
    assert "nearest class mean on frozen features" in told and "(val)" in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert "nearest class mean on frozen features: nothing trained" in page
    assert "nearest class mean by Euclidean distance" in page
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert row["difference"] < 1e-4
    network, contract, made = load_network(tmp_path / "run")
    assert len(made.fit) == 3 and len(contract.labels) == 3
    assert network.head.weight.shape == (3, 1904) and network.l2
    assert made.recipe.model.pool == "levels" and network.pool is not None
    assert made.recipe.model.mirrors == network.mirrors == 2
    with pytest.raises(UsageError, match="bilinear must be trained"):
        run(str(tiny / "data"), tmp_path / "b", "chain", ["model.pool=bilinear"], "cpu")


def test_what_the_baseline_is_judged_on(tiny):
    where = str(tiny / "tiny.toml")
    recipe = load_recipe(where, ["data.shots=2", "geometry.size=64"])
    split = split_of(tiny / "data", recipe, where)
    source = frozen_source(recipe)
    assert source is not None and source.geometry == recipe.geometry
    found = nearest_mean(split, source)
    assert found is not None and (found.images, found.judged_by) == (len(split.evaluate), "val")
    recipe = load_recipe(where, ["data.shots=2", "geometry.size=64", 'data.evaluate=""'])
    found = nearest_mean(split_of(tiny / "data", recipe, where), source)
    assert found is not None and found.images == 6 and "left out in turn" in str(found)
    recipe = load_recipe(where, ["data.shots=1", "geometry.size=64", 'data.evaluate=""'])
    assert nearest_mean(split_of(tiny / "data", recipe, where), source) is None
    one = frozen_source(load_recipe(where, ["geometry.size=64", "model.mirrors=2"]))
    assert one is not None and one.digest != source.digest  # judged on what the recipe looks at
    for change in SMALL[0], "model.pretrained=false":
        assert frozen_source(load_recipe("default", [change])) is None
