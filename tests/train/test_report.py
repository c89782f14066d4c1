"""The report of a run: one page without anything from elsewhere, right figures, hostile names."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from edge_fgr_train.chain import Point
from edge_fgr_train.dataset import Sample
from edge_fgr_train.evaluate import wilson
from edge_fgr_train.parts import Split
from edge_fgr_train.recipe import Chain, load_recipe
from edge_fgr_train.report import Report, write_report
from pages import Elements

NOTHING = np.empty(0)
NONE = "\N{EN DASH}"


class Page(Elements):
    """What a page holds: elements with their attributes and texts, properly nested."""

    def __init__(self, path):
        super().__init__(path.read_text(encoding="utf-8"))

    @property
    def words(self):
        return self.text("body")[0]

    def matrices(self):
        return [json.loads(e["text"]) for e in self.all("script") if e.get("type")]

    def rows(self):
        """The table of classes, as texts."""
        after = self.elements[self.elements.index(self.all("table", "sortable")[0]) :]
        cells = [" ".join(e["text"].split()) for e in after if e["tag"] == "td"]
        return [cells[i : i + 6] for i in range(0, len(cells), 6)]


def logits_of(truth, answers, classes):
    return (4 * np.eye(classes)[answers] + np.eye(classes)[truth]).astype(np.float32)


def report_of(photos, label_of=None, mistakes=(), **changes):
    """Of each class of golden photos one to fit and one to judge; mistakes: (judged, class)."""
    samples = [
        Sample(p.name, p, tuple(p.stem.split("_")[:-1]) if label_of is None else label_of(i // 2))
        for i, p in enumerate(photos)
    ]
    fit, judged = samples[::2], samples[1::2]
    labels = sorted({sample.label for sample in fit})
    truth = [labels.index(sample.label) for sample in judged]
    answers = list(truth)
    for i, answer in mistakes:
        answers[i] = answer
    made = Report(
        recipe=replace(load_recipe("chain"), chain=Chain(select="mic:3")),
        split=Split("/where/it/is", ("train", "val"), fit, judged, []),
        labels=labels,
        judged=judged,
        judged_by="val",
        logits=logits_of(truth, answers, len(labels)),
        temperature=1.0,
        scores=np.array([0.1, 0.5, 0.3, 0.02, 0.4]),
        kept=np.array([False, True, True, False, True]),
        chance=0.05,
        path=(Point(1e-4, 0.7, 0.02), Point(1e-3, 0.8, 0.01), Point(1e-2, 0.79, 0.01)),
        c=1e-3,
    )
    return replace(made, **changes)


def write(folder, report):
    return Page(write_report(folder, report))


MISTAKES = ((0, 1), (2, 3), (3, 2), (9, 5))


@pytest.fixture(scope="module")
def page(photos, tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"), report_of(photos, mistakes=MISTAKES))


def test_nothing_comes_from_elsewhere(page):
    assert "http" not in page.source.replace("http-equiv", "")
    assert "@import" not in page.source and "url(" not in page.source.replace("url(#", "")
    for element in page.elements:
        for key in ("src", "href", "action", "data", "srcset"):
            assert (element.get(key) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert not page.all("link") and not page.all("iframe")
    assert page.source.startswith("<!DOCTYPE html>")
    assert len(page.source.encode()) < 3_000_000


def test_references_inside_of_the_page_are_unique_and_there(page):
    ids = [e["id"] for e in page.elements if "id" in e]
    assert len(ids) == len(set(ids))
    wanted = [e["href"] for e in page.elements if (e.get("href") or "").startswith("#")]
    wanted += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", page.source)]
    assert wanted and {name.removeprefix("#") for name in wanted} <= set(ids)


def test_pictures_and_plots_have_words(page):
    assert len(page.all("img")) == 2 * len(MISTAKES)
    assert all(image["alt"] for image in page.all("img"))
    assert all(plot["aria-label"] and plot["role"] == "img" for plot in page.all("svg"))


def test_figures(page):
    cards = page.text("div", "card")
    assert cards[0] == "Top-1, fine classes 75.0 % 95 % interval 50.5 % to 89.8 %"
    assert cards[1].startswith("Top-1, coarse classes 93.8 %")  # three of four stay among apples
    assert cards[2] == "Macro recall 75.0 % mean over 16 classes"
    assert cards[3] == "Judged images 16 validation, not fitted on"
    assert not page.all("div", "alarm")


def test_wilson():
    """Against the closed form's known values (Agresti and Coull 1998; Newcombe 1998, table I)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)


def test_matrices(page):
    coarse, fine = page.matrices()
    assert fine["names"][0] == "Fruit / Apple / Golden-Delicious"
    cells = {(row, column): count for row, column, count in fine["cells"]}
    wrong = {(row, column) for row, column in cells if row != column}
    assert wrong == {(0, 1), (2, 3), (3, 2), (9, 5)}
    assert len(coarse["names"]) == 13
    assert sum(count for row, column, count in coarse["cells"] if row == column) == 15


def test_classes_are_sorted_by_recall(page):
    rows = page.rows()
    assert len(rows) == 16
    assert rows[0][:4] == ["Fruit / Apple / Golden-Delicious", "1", "1", "0.0 %"]
    assert rows[0][4:] == [NONE, "Granny-Smith \N{MULTIPLICATION SIGN} 1"]
    assert [row[3] for row in rows] == ["0.0 %"] * 4 + ["100.0 %"] * 12
    of_granny_smith = next(row for row in rows if "Granny-Smith" in row[0])
    assert of_granny_smith[4] == "50.0 %"


def test_pairs(page):
    (first, *_) = page.all("article", "pair")
    words = " ".join(first["text"].split())
    assert words.startswith("true Golden-Delicious answer Granny-Smith 1 of 1 image, 100.0 %")
    titles = [image["title"] for image in page.all("img")][:2]
    assert titles == ["Fruit_Apple_Golden-Delicious_044.jpg", "Fruit_Apple_Granny-Smith_002.jpg"]


def test_chosen_features(page):
    top = page.text("li")
    assert top[:3] == ["feature 1 0.500", "feature 4 0.400", "feature 2 0.300"]
    assert top[3] == "feature 0, left out 0.100"
    assert "3 of 5 features were kept" in page.words


def test_chosen_strength(page):
    assert page.text("tr", "chosen") == ["0.001 80.0 % 1.0 %"]
    assert "not tried" not in page.words


@pytest.mark.parametrize(("c", "words"), [(1e-4, "Smaller ones"), (1e-2, "Larger ones")])
def test_a_strength_at_the_edge(photos, tmp_path, c, words):
    assert f"{words} were not tried" in write(tmp_path, report_of(photos, c=c)).words


def test_equal_input_gives_equal_bytes(page, photos, tmp_path):
    """Whatever the user's own settings of matplotlib are, and without changing them."""
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "text.color": "red"}):
        again = write(tmp_path / "new" / "folder", report_of(photos, mistakes=MISTAKES))
        assert matplotlib.rcParams["font.size"] == 30
    assert again.source == page.source


HOSTILE = (
    '<script>alert("1")</script>',
    "</script><!--",
    'it\'s $x_{1$ & "more" &lt;',
    "two\nlines\tand\x00 nothing",
    "-rf --help",
    "果物 🍏 عنب",
    "turned \u202e round",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 5000,
    "half \ud800 a letter",
)


@pytest.mark.parametrize("depth", [1, 3])
def test_hostile_names(photos, tmp_path, depth):
    def label_of(i):
        above = (HOSTILE[0], HOSTILE[i % 3])[: depth - 1]
        return (*above, f"{i}{HOSTILE[i % len(HOSTILE)]}")

    bare = report_of(photos)
    tame = write(tmp_path / "tame", report_of(photos, lambda i: ("a", "b", f"{i}")[-depth:]))
    report = report_of(
        photos, label_of, [(i, (i + 1) % 16) for i in range(16)],
        recipe=replace(bare.recipe, name=HOSTILE[0], notes=HOSTILE[1], licence=HOSTILE[2]),
    )  # fmt: skip
    report = replace(report, split=replace(report.split, origin=HOSTILE[0], folders=HOSTILE))
    page = write(tmp_path, report)
    assert len(page.all("script")) - len(page.matrices()) == 1
    assert {e["tag"] for e in page.elements} == {e["tag"] for e in tame.elements} | {
        "article", "img", "br"
    }  # fmt: skip
    names = page.matrices()[-1]["names"]
    assert not [c for name in names for c in name if c in "\n\t\x00\u202e"]
    assert max(map(len, names)) < 600
    (heading,) = page.text("h1")
    assert heading == HOSTILE[0]
    assert any("two lines and nothing" in name for name in names)
    assert any("{{ 7 * 7 }}" in row[0] for row in page.rows())
    for word in ("果物 🍏 عنب", 'it\'s $x_{1$ & "more" &lt;', "-rf --help"):
        assert any(word in row[0] for row in page.rows())


def test_one_level(photos, tmp_path):
    page = write(tmp_path, report_of(photos, lambda i: (f"class {i:02}",), MISTAKES))
    assert page.text("div", "card")[0].startswith("Top-1 75.0 %")
    assert len(page.matrices()) == 1
    assert "oarse" not in " ".join(page.text("h3") + page.text("dt"))


def test_two_classes(photos, tmp_path):
    page = write(tmp_path, report_of(photos[:4], lambda i: ("no", "yes")[i : i + 1], [(0, 1)]))
    assert page.text("div", "card")[0].startswith("Top-1 50.0 %")
    assert [row[0] for row in page.rows()] == ["no", "yes"]


def test_no_mistakes(photos, tmp_path):
    page = write(tmp_path, report_of(photos))
    assert "every judged image got its own class" in page.words
    assert not page.all("img")


def test_nothing_chosen_and_nothing_cross_validated(photos, tmp_path):
    recipe = replace(load_recipe("chain"), chain=Chain(head="logreg"))
    report = report_of(
        photos, recipe=recipe, scores=NOTHING, kept=NOTHING.astype(bool), chance=None, path=()
    )
    page = write(tmp_path, report)
    assert "Not measured" in page.words and "Chosen features" not in page.words
    assert "all features" in page.words and "logistic" in page.words


def test_a_class_that_nothing_was_judged_of(photos, tmp_path):
    whole = report_of(photos, mistakes=[(1, 0)])
    report = replace(whole, judged=whole.judged[1:], logits=whole.logits[1:])
    page = write(tmp_path, report)
    assert page.rows()[-1][1:] == ["1", "0", NONE, "0.0 %", ""]
    assert "mean over 15 classes" in page.words


def test_what_is_no_accuracy_says_so(photos, tmp_path):
    page = write(tmp_path, report_of(photos, judged_by="the images it was fitted on"))
    assert "These figures are no accuracy" in page.text("div", "alarm")[0]


def test_cross_validation_is_named(photos, tmp_path):
    page = write(tmp_path, report_of(photos, judged_by="cross-validation"))
    assert "fitted without it" in page.words and not page.all("div", "alarm")


@pytest.mark.parametrize(
    ("select", "words"), [("pca:3", "hold 90.0"), ("lda:3", "3 discriminants")]
)
def test_components(photos, tmp_path, select, words):
    recipe = replace(load_recipe("chain"), chain=Chain(select=select))
    shares = {"scores": np.array([0.6, 0.2, 0.1]), "kept": np.ones(3, bool), "chance": None}
    page = write(tmp_path, report_of(photos, recipe=recipe, **shares))
    assert words in page.words
    assert page.text("li")[0] == "component 1 60.0 %"


@pytest.mark.parametrize("keys", [("loss",), ("loss", "top1"), ("loss", "top1", "coarse")])
def test_a_network(photos, tmp_path, keys):
    rows = [{"epoch": i + 1, **dict.fromkeys(keys, 0.5 + 0.1 * i)} for i in range(3)]
    rows += [{"epoch": 4, "loss": 0.3}]
    recipe = replace(load_recipe("chain"), chain=None)
    nothing = {
        "scores": NOTHING,
        "kept": NOTHING.astype(bool),
        "chance": None,
        "path": (),
        "c": None,
    }
    page = write(tmp_path, report_of(photos, recipe=recipe, epochs=rows, **nothing))
    assert len([e for e in page.all("svg") if "over the epochs" in e["aria-label"]]) == min(
        2, len(keys)
    )
    assert "Strength" not in page.words


def test_images_that_are_gone(photos, tmp_path):
    """Of several that were mistaken the next is shown; of none, words."""
    folder = tmp_path / "photos"
    folder.mkdir()
    copies = [shutil.copy(photo, folder / photo.name) for photo in photos[:8]]
    report = report_of(copies, lambda i: ("a", "a", "a", "b")[i : i + 1], [(0, 1), (1, 1), (2, 1)])
    surest = report.logits.copy()
    surest[0] *= 2
    report = replace(report, logits=surest)
    assert write(tmp_path, report).all("img")[0]["title"] == copies[1].name
    copies[1].unlink()
    assert write(tmp_path, report).all("img")[0]["title"] == copies[3].name
    for copy in (copies[3], copies[5], copies[6]):
        copy.unlink()
    page = write(tmp_path, report)
    assert not page.all("img") and len(page.all("div", "lost")) == 2


@pytest.mark.parametrize(("classes", "strips"), [(48, 96), (60, 4), (300, 4)])
def test_many_classes(photos, tmp_path, classes, strips):
    """Labels of each class as long as they fit, else of groups; a few bytes a class."""
    paths = [photos[i % 32] for i in range(2 * classes)]

    def label_of(i):
        return ("left" if i % 2 else "right", f"{i:03}")

    rng = np.random.default_rng(0)
    mistakes = list(enumerate(rng.integers(0, classes, classes).tolist()))
    page = write(tmp_path, report_of(paths, label_of, mistakes))
    labels = [e for e in page.all("bdi") if "grid-" in (e.get("style") or "")]
    assert len(labels) == strips
    assert len(page.source.encode()) < 700_000


def test_many_classes_without_groups(photos, tmp_path):
    paths = [photos[i % 32] for i in range(120)]
    page = write(tmp_path, report_of(paths, lambda i: (f"{i:03}",)))
    assert not [e for e in page.all("bdi") if "grid-" in (e.get("style") or "")]
