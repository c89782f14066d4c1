"""A model on labelled images: figures against scikit-learn, two-sided decisions, a line's gate."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from edge_fgr import Classifier
from edge_fgr.contract import METADATA_KEY
from edge_fgr.decision import probabilities, roll_up
from edge_fgr.errors import (
    DataError,
    EdgeFgrError,
    InputMissingError,
    ModelError,
    OutputError,
    UsageError,
)
from edge_fgr.model import embedded, open_model
from edge_fgr_bench.fold_figures import limit_of
from edge_fgr_export.answerers import open_answerer
from edge_fgr_export.class_names import class_named, classes_named
from edge_fgr_export.evaluate_answers import ask
from edge_fgr_export.evaluate_command import Asked, Outputs, run
from edge_fgr_export.evaluate_figures import figures_of
from edge_fgr_export.operating_points import choose, judge, threshold_of
from edge_fgr_export.resampled import DRAWS, Counted, draws_of
from edge_fgr_export.two_sided import NOTICE, areas_of, two_sided
from edge_fgr_export.verify_images import gather
from edge_fgr_train.reliability import ece
from pages import Elements
from pictures import opened

GINGER = "Vegetables/Ginger"


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """The golden photographs and coarse copies of them, in folders of their classes."""
    root = tmp_path_factory.mktemp("data")
    for photo in photos:
        folder = root.joinpath(*photo.stem.split("_")[:-1])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / photo.name)
        picture = opened(photo).convert("RGB")
        picture.resize((28, 28)).resize(picture.size).save(folder / f"coarse-{photo.name}")
    return root


@pytest.fixture(scope="module")
def side():
    return open_answerer("grocery81", "cpu")


@pytest.fixture(scope="module")
def pool(data, side):
    return gather([str(data)], side.labels, labelled=True)


@pytest.fixture(scope="module")
def given(side, pool):
    return ask(side, pool.paths)


@pytest.fixture(scope="module")
def truth(pool):
    return np.array(pool.targets)


@pytest.fixture(scope="module")
def found(side, given, truth):
    return figures_of(given.logits, truth, side.labels, side.temperature)


def test_figures_are_those_of_scikit_learn(side, given, truth, found):
    said = given.logits.argmax(axis=1)
    values = probabilities(given.logits, side.temperature)
    present = np.unique(truth)
    assert 0.5 < found.top1.share < 1  # there are mistakes to count
    assert found.top1.share == metrics.accuracy_score(truth, said)
    places = np.arange(81)
    top5 = metrics.top_k_accuracy_score(truth, values, k=5, labels=places)
    assert found.top5.share == top5 > found.top1.share
    options = {"labels": present, "zero_division": np.nan}
    recalls = metrics.recall_score(truth, said, average=None, **options)
    precisions = metrics.precision_score(truth, said, average=None, **options)
    assert found.macro.value == pytest.approx(recalls.mean())
    assert found.worst.recall.value == recalls.min()
    assert found.worst.images == max((truth == c).sum() for c in present[recalls == recalls.min()])
    for c, recall, precision in zip(present, recalls, precisions, strict=True):
        row = found.classes[c]
        assert row.recall.share == recall
        assert np.isnan(precision) if row.precision is None else row.precision.share == precision
    absent = found.classes[next(c for c in range(81) if c not in truth)]
    assert absent.recall is None and absent.taken_for is None
    np.testing.assert_array_equal(
        found.counts, metrics.confusion_matrix(truth, said, labels=np.arange(81))
    )
    brier = metrics.brier_score_loss(truth, values, labels=places, scale_by_half=False)
    assert found.brier.value == pytest.approx(brier)
    assert found.ece.value == pytest.approx(ece(values.max(axis=1), said == truth))


def test_coarse_accuracy_is_by_summed_probability(side, given, truth, found):
    coarse, sums = roll_up(probabilities(given.logits, side.temperature), side.labels, 2)
    right = [coarse[i] == side.labels[t][:2] for i, t in zip(sums.argmax(1), truth, strict=True)]
    assert found.coarse.share == np.mean(right) >= found.top1.share


def test_pairs_are_counted_as_shares_of_the_true_class(given, truth, found):
    said = given.logits.argmax(axis=1)
    for pair in found.confused:
        rows = truth == pair.truth
        assert pair.counted == Counted(int((said[rows] == pair.answer).sum()), int(rows.sum()))
    counts = [pair.counted.count for pair in found.confused]
    assert sum(counts) == (said != truth).sum() and counts == sorted(counts, reverse=True)


def test_intervals_of_shares_are_wilsons(found):
    for counted in (found.top1, found.coarse, Counted(0, 7), Counted(7, 7)):
        test = binomtest(counted.count, counted.of)
        wanted = test.proportion_ci(method="wilson")
        assert counted.interval == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_draws_keep_the_size_of_each_stratum():
    strata = np.array([0, 0, 0, 1, 1, 2])
    drawn = np.concatenate([*draws_of(strata)])
    assert drawn.shape == (DRAWS, 6)
    for stratum, size in ((0, 3), (1, 2), (2, 1)):
        assert (drawn[:, strata == stratum].sum(axis=1) == size).all()
    assert drawn[:, 0].std() > 0.5
    np.testing.assert_array_equal(drawn, np.concatenate([*draws_of(strata)]))


def synthetic(count=400, classes=4, right=0.75, seed=0):
    """Answers that are right with one probability, and whose own probability is ``right``."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    said = np.where(random.random(count) < right, truth, (truth + 1) % classes)
    rest = (1 - right) / (classes - 1)
    logits = np.log(np.where(np.eye(classes)[said] > 0, right, rest))
    return logits, truth


def test_intervals_of_means_are_as_wide_as_theory_says():
    logits, truth = synthetic()
    labels = [(f"c{i}",) for i in range(4)]
    made = figures_of(logits, truth, labels, 1.0)
    recalls = np.array([made.classes[i].recall.share for i in range(4)])
    spread = 1.96 * np.sqrt((recalls * (1 - recalls) / 100).sum()) / 4
    low, high = made.macro.interval
    assert (high - low) / 2 == pytest.approx(spread, rel=0.15)
    assert low < made.macro.value < high
    distance = ((np.exp(logits) - np.eye(4)[truth]) ** 2).sum(axis=1)
    low, high = made.brier.interval
    assert (high - low) / 2 == pytest.approx(1.96 * distance.std() / 20, rel=0.15)
    assert made.ece.interval[0] <= made.ece.value <= made.ece.interval[1]


def test_a_class_that_is_never_or_always_right_still_has_an_interval():
    logits, truth = np.eye(2)[[0, 0, 0, 1, 1, 1]] * 9.0, np.array([0, 0, 0, 0, 0, 1])
    made = figures_of(logits, truth, [("a",), ("b",)], 1.0)
    assert made.worst.recall.value == 0.6 and made.worst.place == 0
    all_right = figures_of(logits, np.array([0, 0, 0, 1, 1, 1]), [("a",), ("b",)], 1.0)
    assert all_right.worst.recall.interval == pytest.approx(Counted(3, 3).interval)
    assert all_right.confused == () and all_right.top5 is None and all_right.coarse is None


def test_answers_that_cannot_be_judged():
    logits, truth = synthetic(8)
    labels = [(f"c{i}",) for i in range(4)]
    with pytest.raises(UsageError, match="all images are of one class, c0"):
        figures_of(logits, np.zeros(8, int), labels, 1.0)
    logits[3, 1] = np.nan
    with pytest.raises(ModelError, match="for 1 of 8 images"):
        figures_of(logits, truth, labels, 1.0)


def test_two_sides_are_those_of_scikit_learn(side, given, truth):
    positive = classes_named("Fruit/Apple", side.labels, "--positive")
    assert len(positive) > 1
    made = two_sided(given.logits, truth, positive, side.temperature, 0.25)
    score = probabilities(given.logits, side.temperature)[:, positive].sum(axis=1)
    wanted = np.isin(truth, positive)
    assert made.auc.value == metrics.roc_auc_score(wanted, score) < 1
    assert made.average_precision.value == metrics.average_precision_score(wanted, score)
    said = [np.isin(given.logits.argmax(1), positive), score >= 0.25]
    for decision, answers in zip(made.decisions, said, strict=True):
        assert decision.sensitivity.share == metrics.recall_score(wanted, answers)
        assert decision.specificity.share == metrics.recall_score(~wanted, ~answers)
        assert decision.ppv.share == metrics.precision_score(wanted, answers)
        assert decision.npv.share == metrics.precision_score(~wanted, ~answers)
    assert [decision.threshold for decision in made.decisions] == [None, 0.25]
    for estimate in (made.auc, made.average_precision):
        assert estimate.interval[0] < estimate.value <= estimate.interval[1] <= 1
    area = metrics.auc(made.curves.false_positive, made.curves.true_positive)
    assert area == pytest.approx(made.auc.value)


def test_areas_of_weighted_images_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    truth, score = random.random(50) < 0.3, random.random(50).round(1)  # with ties
    weights = random.integers(0, 3, (20, 50)).astype(float)
    weights[0, score > 0.5] = 0  # the most probable ones were not drawn
    for row, auc, precision in zip(weights, *areas_of(truth, score, weights), strict=True):
        assert auc == pytest.approx(metrics.roc_auc_score(truth, score, sample_weight=row))
        wanted = metrics.average_precision_score(truth, score, sample_weight=row)
        assert precision == pytest.approx(wanted)


def test_resampling_each_side_gives_the_spread_of_the_area():
    """Against the formula of Hanley and McNeil (1982)."""
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], 60)
    score = np.clip(random.normal(0.4 + 0.2 * truth, 0.2), 0.01, 0.99)
    logits = np.log(np.stack([1 - score, score], axis=1))
    made = two_sided(logits, truth, [1], 1.0)
    area = made.auc.value
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + 59 * (q1 - area**2) + 59 * (q2 - area**2)
    low, high = made.auc.interval
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(spread) / 60, rel=0.2)


def test_sides_that_cannot_be_meant():
    logits, truth = synthetic(40)
    with pytest.raises(UsageError, match="names all classes"):
        two_sided(logits, truth, [0, 1, 2, 3], 1.0)
    with pytest.raises(UsageError, match="all 10 images are positive"):
        two_sided(logits[truth == 1], truth[truth == 1], [1], 1.0)
    with pytest.raises(UsageError, match="all 30 images are negative"):
        two_sided(logits[truth != 1], truth[truth != 1], [1], 1.0)
    never = two_sided(np.array([[9.0, 0], [9.0, 0]]), np.array([0, 1]), [1], 1.0).decisions[0]
    assert never.ppv is None and never.npv.share == 0.5


LINE = [("Tile", "Free"), ("Tile", "Crack"), ("Tile", "Blowhole")]


def line(count=100, seed=0):
    """Scores of a line: good ones high, defects lower, some of them among the good."""
    random = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], [count, count // 2, count // 4])
    scores = np.clip(random.normal(np.where(truth == 0, 0.7, 0.35), 0.15), 1e-6, 1)
    return scores.round(3), np.zeros(len(truth), bool), truth


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_that_keeps_the_share_misses_fewer(share, seed):
    scores, unknown, truth = line(seed=seed)
    made = choose(scores, unknown, truth, LINE, 0, share)
    good = truth == 0
    rejected = (scores < made.point.threshold)[good].sum()
    missed = (scores >= made.point.threshold)[~good].sum()
    assert made.good_rejected == Counted(rejected, 100) and rejected <= share * 100
    assert made.missed == Counted(missed, 75) and sum(c.count for _, c in made.by_class) == missed
    for threshold in np.unique(scores):
        if (scores < threshold)[good].sum() <= share * 100:
            assert (scores >= threshold)[~good].sum() >= missed
    shares = [counted.share for _, counted in made.by_class]
    assert shares == sorted(shares, reverse=True) and {i for i, _ in made.by_class} == {1, 2}
    point = made.point
    assert (point.accepted, point.rejected) == (100 - rejected, rejected)
    assert (point.missed, point.found, point.max_false_reject) == (missed, 75 - missed, share)
    assert made.chosen and not judge(point, scores, unknown, truth, 0).chosen
    assert judge(point, scores, unknown, truth, 0).missed == made.missed


def test_the_last_digits_of_another_machine_reject_nobody():
    scores, unknown, truth = line()
    made = choose(scores, unknown, truth, LINE, 0, 0.05)
    again = judge(made.point, scores - 4e-7, unknown, truth, 0)
    assert again.good_rejected == made.good_rejected and again.missed == made.missed
    assert not again.chosen


def test_unknown_images_are_rejected_and_use_up_the_share():
    scores, unknown, truth = line()
    plain = choose(scores, unknown, truth, LINE, 0, 0.05)
    unknown[np.argsort(-scores * (truth == 0))[:3]] = True  # the surest good ones
    made = choose(scores, unknown, truth, LINE, 0, 0.05)
    assert made.good_rejected.count <= 5 and made.unknown == 3
    assert made.point.threshold < plain.point.threshold  # two are left to reject
    assert made.missed.count >= plain.missed.count
    defects = np.flatnonzero((truth != 0) & (scores >= made.point.threshold))
    unknown[defects[0]] = True
    assert choose(scores, unknown, truth, LINE, 0, 0.05).missed.count == made.missed.count - 1


def test_operating_points_that_cannot_be_reached():
    scores, unknown, truth = line()
    few = np.r_[0:7, 100:120]
    with pytest.raises(UsageError, match=r"7 images of Tile/Free, which takes 20; .* is 0\.1429"):
        choose(scores[few], unknown[few], truth[few], LINE, 0, 0.05)
    assert choose(scores[few], unknown[few], truth[few], LINE, 0, 0.1429).good_rejected.of == 7
    one = np.r_[0:1, 100:120]
    with pytest.raises(UsageError, match="no share can be"):
        choose(scores[one], unknown[one], truth[one], LINE, 0, 0.05)
    strange = unknown.copy()
    strange[:11] = True
    with pytest.raises(
        UsageError, match=r"11 of 100 images .* unknown.*nearest that can be is 0\.11"
    ):
        choose(scores, strange, truth, LINE, 0, 0.05)
    assert choose(scores, strange, truth, LINE, 0, 0.11).unknown == 11
    with pytest.raises(UsageError, match=r"have one probability of it, 0\.5;"):
        choose(np.full(175, 0.5), unknown, truth, LINE, 0, 0.05)
    never = np.where(np.arange(175) < 12, 0.0, scores)
    with pytest.raises(UsageError, match=r"probability 0 .*nearest that can be is 0\.12"):
        choose(never, unknown, truth, LINE, 0, 0.05)
    with pytest.raises(UsageError, match="no image of it"):
        choose(scores[100:], unknown[100:], truth[100:], LINE, 0, 0.05)
    with pytest.raises(UsageError, match="no image of any other class"):
        choose(scores[:100], unknown[:100], truth[:100], LINE, 0, 0.05)


def test_the_bench_and_the_line_have_one_rule():
    scores, _, truth = line()
    good = scores[truth == 0]
    for share in (0.01, 0.05, 0.2):
        limit, threshold = limit_of(1 - good, share), threshold_of(good, share)
        np.testing.assert_array_equal(1 - good > limit, good < threshold)
    assert threshold_of(np.arange(40) / 40, 0.05) == 2 / 40  # two of 40 lie below


def test_names_of_classes(side):
    labels = side.labels
    assert class_named(GINGER, labels, "-") == class_named("Ginger", labels, "-")
    below = classes_named("Fruit/Apple", labels, "-")
    assert {labels[i][:2] for i in below} == {("Fruit", "Apple")} and len(below) > 2
    for text, near in (("ginger", GINGER), ("Granny", "Granny-Smith"), ("Fruit/Aple", "Fruit/")):
        with pytest.raises(UsageError, match=f"near: .*{near}"):
            classes_named(text, labels, "--positive")
    for text in ("zzzz", "", "/"):
        with pytest.raises(UsageError, match="is no class of the model; known"):
            classes_named(text, labels, "--positive")
    with pytest.raises(UsageError, match="classes, first Fruit/Apple/"):
        class_named("Fruit/Apple", labels, "--accept")
    twice = [("a", "x"), ("b", "x"), ("F/A-18",)]
    with pytest.raises(UsageError, match="may be a/x and b/x"):
        classes_named("x", twice, "--positive")
    assert classes_named("F/A-18", twice, "--positive") == [2]


@pytest.fixture(scope="module")
def gate(data, tmp_path_factory):
    """The embedded model with an operating point, and what evaluate said."""
    folder = tmp_path_factory.mktemp("gate")
    outputs = Outputs(folder / "e.json", folder / "e.html", folder / "gate.onnx")
    asked = Asked(accept="Granny-Smith", max_false_reject=0.5)
    run("grocery81", [str(data)], asked=asked, outputs=outputs, device="cpu")
    return folder


def test_classify_obeys_the_stored_point(cli, gate, pool, truth):
    figures = json.loads((gate / "e.json").read_text())
    made = figures["operating"]
    assert made["chosen_on_these"] and made["good_rejected"]["share"] <= 0.5
    clf = Classifier.load(gate / "gate.onnx", device="cpu")
    gates = [found.gate for found in clf.classify_many(pool.paths)]
    accepted = np.array([each.accepted for each in gates])
    good = truth == clf.contract.labels.index(tuple(made["label"]))
    assert made["good_rejected"]["count"] == (~accepted & good).sum()
    assert made["missed"]["count"] == (accepted & ~good).sum()
    assert {each.threshold for each in gates} == {made["threshold"]}
    one = next(p for p, yes in zip(pool.paths, accepted, strict=True) if yes)
    other = next(p for p, yes in zip(pool.paths, accepted, strict=True) if not yes)
    taken = cli("classify", one, "-m", gate / "gate.onnx", "--gate")
    assert taken.returncode == 0 and "Granny-Smith (accepted)" in taken.stdout
    left = cli("classify", other, "-m", gate / "gate.onnx", "--gate", "--format", "json")
    assert left.returncode == 1 and not json.loads(left.stdout)[0]["gate"]["accepted"]
    assert len(left.stderr.splitlines()) == 1
    both = cli("classify", one, other, "-m", gate / "gate.onnx", "--gate")
    assert both.returncode == 1 and "1 of 2 images are not accepted" in both.stderr
    assert cli("classify", one, other, "-m", gate / "gate.onnx").returncode == 0
    refused = cli("classify", one, "--gate")
    assert refused.returncode == 2 and "evaluate --accept" in refused.stderr
    card = cli("inspect", gate / "gate.onnx").stdout
    assert re.search(r"^accepts +Fruit > Apple > Granny-Smith from probability", card, re.M)


def test_only_the_contract_of_the_new_model_differs(gate):
    old, new = onnx.load(embedded()["grocery81"]), onnx.load(gate / "gate.onnx")
    assert old.graph == new.graph and old.opset_import == new.opset_import
    props = [{p.key: p.value for p in model.metadata_props} for model in (old, new)]
    assert [*props[0]] == [*props[1]]
    assert {k for k in props[0] if props[0][k] != props[1][k]} == {METADATA_KEY}
    before, after = open_model("grocery81").contract, open_model(gate / "gate.onnx").contract
    assert before.operating is None and after.operating.max_false_reject == 0.5
    assert replace(after, operating=None, schema=before.schema) == before


def test_a_stored_point_is_judged_on_other_images(capsys, gate, data, tmp_path):
    run(str(gate / "gate.onnx"), [str(data)], form="json")
    again = json.loads(capsys.readouterr().out)
    first = json.loads((gate / "e.json").read_text())
    assert again["operating"]["chosen_on_these"] is False
    for key in ("label", "threshold", "good_rejected", "missed"):
        assert again["operating"][key] == first["operating"][key]
    assert again["top1"] == first["top1"]
    for name in ("Banana", "Kiwi"):
        shutil.copytree(data / "Fruit" / name, tmp_path / "Fruit" / name)
    run(str(gate / "gate.onnx"), [str(tmp_path)], form="json")
    without = capsys.readouterr()
    assert json.loads(without.out)["operating"] is None and "not judged" in without.err


def test_what_is_printed(capsys, cli, data, found, tmp_path):
    options = ["--positive", "Fruit/Apple", "--positive", "Banana", "--threshold", 0.25]
    result = cli("evaluate", "grocery81", data, *options, "--json", tmp_path / "e.json")
    assert result.returncode == 0, result.stderr
    for words in ("top-1 ", "macro recall ", "worst class ", "coarse ", "ECE ", "Brier score ",
                  "most confused", "recall of the classes", "sensitivity ", NOTICE):  # fmt: skip
        assert words in result.stdout
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["schema_version"] == 1 and figures["images"] == 64
    assert figures["top1"]["count"] == found.top1.count
    assert figures["macro_recall"]["value"] == pytest.approx(found.macro.value, abs=1e-6)
    assert len(figures["per_class"]) == 81 and figures["two_sided"]["notice"] == NOTICE
    assert [len(d) for d in figures["two_sided"]["decisions"]] == [5, 5]
    assert figures["operating"] is None
    run("grocery81", [str(data)], asked=Asked(positive=("Fruit/Apple",)), form="json")
    assert json.loads(capsys.readouterr().out)["two_sided"]["positive"]


def test_the_page_of_a_line(gate):
    text = (gate / "e.html").read_text()
    page = Elements(text)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)|https?:", text)
    titles = page.text("h2")
    assert titles == ["Operating point", "Calibration", "Classes", "Confusion", "Most confused"]
    assert "chosen on these very images" in text and "medical" not in text
    assert text.count('<img src="data:image/jpeg;base64,') >= 2
    assert sum("threshold" in (svg.get("aria-label") or "") for svg in page.all("svg")) == 1
    assert len(page.all("table", "classes")) == 1


def test_the_page_of_two_sides(data, tmp_path, capsys):
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    asked = Asked(positive=("Fruit/Apple",), threshold=0.25)
    for path in pages:
        run("grocery81", [str(data)], asked=asked, outputs=Outputs(page=path))
    capsys.readouterr()
    text = pages[0].read_text()
    assert text == pages[1].read_text() and NOTICE in text
    labels = [svg.get("aria-label") for svg in Elements(text).all("svg")]
    assert "Curve: precision over recall" in labels
    assert "Curve: sensitivity over 1 - specificity" in labels


def test_names_cannot_write_into_the_page(data, tmp_path, capsys):
    hostile = tmp_path / "<script>alert(1)<" / "data"
    shutil.copytree(data / "Fruit", hostile / "Fruit")
    run("grocery81", [str(hostile)], outputs=Outputs(page=tmp_path / "x.html"))
    capsys.readouterr()
    assert "<script>alert" not in (tmp_path / "x.html").read_text()


def test_a_run_and_its_labels(capsys, tiny, tmp_path):
    run(str(tiny / "run"), [str(tiny / "data")], splits=["val"], form="json")
    figures = json.loads(capsys.readouterr().out)
    assert figures["model"]["kind"] == "checkpoint" and figures["images"] == 6
    assert figures["top5"] is None and figures["coarse"] is None and figures["splits"] == ["val"]
    asked = Asked(accept="Banana", max_false_reject=0.5)
    run(str(tiny / "run"), [str(tiny / "data")], asked=asked)
    assert "accept Fruit > Banana from" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"is no \.onnx file"):
        outputs = Outputs(model=tmp_path / "x.onnx")
        run(str(tiny / "run"), [str(tiny / "data")], asked=asked, outputs=outputs)


def test_what_cannot_be_meant(photos, data, tmp_path):
    def asked(**options):
        with pytest.raises(UsageError) as error:
            Asked(**options)
        return str(error.value)

    assert "not together" in asked(positive=("a",), accept="b")
    assert "name the positive" in asked(threshold=0.5)
    for value in (-0.1, 1.1, float("nan")):
        assert "within 0 to 1" in asked(positive=("a",), threshold=value)
    assert "name the accepted" in asked(max_false_reject=0.5)
    for value in (0, 1, -1, float("nan")):
        assert "above 0 and below 1" in asked(accept="a", max_false_reject=value)
    one = tmp_path / "one"
    shutil.copytree(data / "Fruit" / "Banana", one / "Fruit" / "Banana")
    strange = tmp_path / "strange"
    shutil.copytree(data / "Fruit", strange / "Fruit")
    shutil.copytree(data / "Fruit" / "Banana", strange / "Fruit" / "Durian")
    accept = Asked(accept="Banana", max_false_reject=0.3)
    for error, words, where, more in (
        (UsageError, "of one class, Fruit/Banana", one, {}),
        (UsageError, "1 of 1 images have no label", photos[0], {}),
        (UsageError, "32 of 32 images have no label", photos[0].parent, {}),
        (DataError, "none of the model's, first Fruit/Durian", strange, {}),
        (UsageError, "is no class of the model", data, {"asked": Asked(("Durian",))}),
        (UsageError, "is no class of the model", data, {"asked": Asked(accept="Durian")}),
        (UsageError, "add --accept", data, {"outputs": Outputs(model=tmp_path / "x.onnx")}),
        (UsageError, r"must end in \.onnx", data,
         {"asked": accept, "outputs": Outputs(model=tmp_path / "gate")}),
        (UsageError, "another output", data,
         {"outputs": Outputs(json=tmp_path / "x", page=tmp_path / "x")}),
        (UsageError, "is an input", data, {"outputs": Outputs(json=data)}),
        (UsageError, "--format csv", data, {"form": "csv"}),
        (EdgeFgrError, "val: no such folder", data, {"splits": ["val"]}),
        (InputMissingError, "no such data", tmp_path / "none", {}),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            run("grocery81", [str(where)], **more)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run("grocery81", [str(data)], outputs=Outputs(json=tmp_path / "file" / "x.json"))
