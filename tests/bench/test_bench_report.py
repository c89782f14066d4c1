"""The report of a bench: what was measured is there, what was not is said, names stay names."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import matplotlib
import pytest
from documents import document, without

from edge_fgr_bench.answers import Share
from edge_fgr_bench.bench_plots import pareto
from edge_fgr_bench.document import Document
from edge_fgr_bench.gates import Outcome
from edge_fgr_bench.markdown import to_markdown
from edge_fgr_bench.report import write_report
from edge_fgr_bench.report_values import best_of, cell, sides_of, spell
from edge_fgr_bench.speed_tables import summary_table
from pages import Elements

PARTS = ("latency", "accuracy", "robustness")
KEPT = Outcome(True, "A lite0 fp32 on cpu: p90_ms 8.9 <= 10 (max_p90_ms)")
BROKEN = Outcome(False, "D mobile int8 on cpu: top1 78.1 < 88 (min_top1)")


class Page(Elements):
    """The report of a bench."""

    @property
    def sections(self):
        return [e["id"] for e in self.all("section")]


@pytest.fixture(scope="module")
def made(photos) -> Document:
    return document(photos)


@pytest.fixture(scope="module")
def other(photos) -> Document:
    """The same models on the same images, on another device."""
    slow = document(photos, seed=1, slow=3.0)
    return replace(slow, title="Old board", host=replace(slow.host, cpu="Cortex-A53"))


def page_of(folder, *documents, outcomes=()):
    path = folder / "report.html"
    write_report(path, documents, outcomes)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("bench"), made)


def tables_of(markdown):
    """Return tables of a Markdown text: rows of cells, the line under the head among them."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.M)
    split = re.compile(r"(?<!\\)\|")
    return [[split.split(row)[1:-1] for row in block.splitlines()] for block in blocks]


def test_all_sections_in_order(page):
    assert page.sections == [
        "summary", "trade", "latency", "accuracy", "robustness", "conditions"
    ]  # fmt: skip
    assert page.text("h1") == ["Grocery shelf, release 3"]
    assert "Cortex-A76, 4 processors, Linux 6.6.31, onnxruntime 1.24.4" in page.text("dd")
    assert not page.all("div", "state")
    assert "Samples next to each other in time are not" in page.text("body")[0]


@pytest.mark.parametrize(
    ("gone", "lost"),
    [
        (("latency",), {"trade", "latency"}),
        (("accuracy",), {"trade", "accuracy"}),
        (("robustness",), {"robustness"}),
        (PARTS, {"trade", "latency", "accuracy", "robustness"}),
    ],
)
def test_sections_are_there_only_where_data_is(made, page, tmp_path, gone, lost):
    less = page_of(tmp_path, without(made, *gone))
    assert set(page.sections) - set(less.sections) == lost
    heads = {"latency": "p50, ms", "accuracy": "Top-1, %", "robustness": "Robust top-1, %"}
    for part, head in heads.items():
        assert (head in summary_table(sides_of([without(made, *gone)])).head) == (part not in gone)
    words = to_markdown([without(made, *gone)])
    titles = [line for line in words.splitlines() if line[:3] == "## "]
    assert [f"## {part.capitalize()}" in titles for part in PARTS] == [p not in gone for p in PARTS]


def test_images_without_truths(made, tmp_path):
    """Nothing is right or wrong then; agreement and what is called unknown remain."""
    accuracy = made.accuracy
    blank = dict.fromkeys(("top1", "top5", "macro", "coarse", "ece", "worst"))
    judged = tuple(replace(one, images=0, **blank) for one in accuracy.judged)
    pairs = tuple(
        replace(pair, labelled=0, p=None, drop=None,
                flips=tuple(replace(flip, outcome="", picture="") for flip in pair.flips))
        for pair in accuracy.pairs
    )  # fmt: skip
    robustness = made.robustness
    cells = tuple(replace(one, right=None) for one in robustness.cells)
    bare = replace(
        made,
        images=replace(made.images, labelled=0),
        accuracy=replace(accuracy, judged=judged, pairs=pairs, truths=((),) * len(accuracy.truths)),
        robustness=replace(robustness, cells=cells),
    )
    page = page_of(tmp_path, bare)
    assert "trade" not in page.sections and not page.all("img")
    assert "Called unknown by corruption, %" in page.text("h3")
    assert "Top-1 by corruption, %" not in page.text("h3")
    assert "no picture" in page.text("div", "lost")
    assert not page.all("span", "tag")


def test_nothing_comes_from_elsewhere(page):
    assert "http" not in page.source.replace("http-equiv", "")
    assert "@import" not in page.source and "url(" not in page.source.replace("url(#", "")
    for element in page.elements:
        for key in ("src", "href", "action", "data", "srcset"):
            assert (element.get(key) or "#").startswith(("#", "data:image/jpeg;base64,"))
        assert not [key for key in element if key.startswith("on")]
    assert not [tag for tag in ("script", "link", "iframe", "object") if page.all(tag)]
    policy = next(e["content"] for e in page.all("meta") if "http-equiv" in e)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_references_inside_of_the_page_are_unique_and_there(made, other, tmp_path):
    page = page_of(tmp_path, made, other)
    ids = [e["id"] for e in page.elements if "id" in e]
    assert len(ids) == len(set(ids))
    wanted = [e["href"] for e in page.elements if (e.get("href") or "").startswith("#")]
    wanted += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", page.source)]
    assert wanted and {name.removeprefix("#") for name in wanted} <= set(ids)
    labels = [e["aria-label"] for e in page.all("svg")]
    assert len(labels) == len(set(labels)) and all(labels)


@pytest.mark.parametrize("several", [False, True])
def test_equal_documents_give_equal_bytes(made, other, tmp_path, several):
    documents = (made, other) if several else (made,)
    first = page_of(tmp_path, *documents).source
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "text.color": "red"}):
        assert page_of(tmp_path, *documents).source == first
    assert to_markdown(documents) == to_markdown(documents)


def test_pareto():
    assert pareto([(1, 0.5), (2, 0.9), (3, 0.8), (4, 0.9), (5, 0.95)]) == [0, 1, 4]
    assert pareto([(2, 0.9), (2, 0.9), (2, 0.8)]) == [0, 1]
    assert pareto([(3, 0.1)]) == [0]


def test_the_page_names_who_is_not_beaten(page):
    """INT8 of the first is fastest, and no candidate has more right answers."""
    assert "Not beaten on both: B." in page.text("p", "note")


def test_only_what_is_apart_from_all_others_is_best():
    apart = [Share(3, 2.9, 3.1), Share(4, 3.9, 4.1), None]
    assert best_of(apart, lower=True) == 0 and best_of(apart, lower=False) == 1
    assert best_of([Share(3, 2.9, 3.95), Share(4, 3.9, 4.1)], lower=True) is None
    assert best_of([Share(3, 3, 3), Share(3, 3, 3)], lower=True) is None
    assert best_of([Share(3, 2.9, 3.1)], lower=True) is None


def test_bold(made, page):
    table = summary_table(sides_of([made]))
    bold = {
        table.head[i]: row[0].text for row in table.rows for i, one in enumerate(row) if one.best
    }
    assert bold == {"p50, ms": "B", "p90, ms": "B", "p99, ms": "B", "Images/s": "B"}
    assert len(page.all("strong")) == 4
    (line,) = [line for line in to_markdown([made]).splitlines() if line.startswith("| B | lite0")]
    assert line.count("**") == 8


def test_bold_never_spans_other_images(made, other):
    moved = replace(other, images=replace(other.images, digest="77" * 32))
    table = summary_table(sides_of([made, moved]))
    assert not any(one.best for row in table.rows for one in row)
    assert "not comparable" in table.note


def test_figures_are_spelled():
    assert [spell(x) for x in (0.0825, 5.926, 12.34, 1650.4)] == ["0.083", "5.93", "12.3", "1,650"]
    assert spell(-0.04, 1) == "0.0" and spell(-1.25, 2) == "\N{MINUS SIGN}1.25"
    assert cell(Share(0.844, 0.682, 0.931), 100, 1).more == "68.2\N{EN DASH}93.1"
    assert cell(Share(0.01, -0.02, 0.03), 100, 0).more == "\N{MINUS SIGN}2 to 3"
    assert cell(None).text == "\N{EN DASH}"


def test_markdown_tables_are_well_formed(made, other):
    hostile = replace(
        made, candidates=tuple(replace(c, name="a|b\\|c\n*d*", file="|") for c in made.candidates)
    )
    for documents in ((made,), (made, other), (hostile,)):
        tables = tables_of(to_markdown(documents, [KEPT, BROKEN]))
        assert len(tables) > 10
        for head, line, *rows in tables:
            assert rows and len(line) == len(head)
            assert all(set(one.strip()) <= set("-:") and "---" in one for one in line)
            assert {len(row) for row in rows} == {len(head)}


def test_limits_are_told_in_words(made, tmp_path):
    page = page_of(tmp_path, made, outcomes=[KEPT])
    (state,) = page.text("div", "state")
    assert state.startswith("The only limit is kept. Kept: A lite0") and not page.all(
        "div", "alarm"
    )
    page = page_of(tmp_path, made, outcomes=[KEPT, BROKEN])
    (alarm,) = page.text("div", "alarm")
    assert alarm.startswith("1 of 2 limits broken. Broken: D mobile int8")
    assert "Kept: A lite0 fp32 on cpu: p90_ms 8.9 <= 10" in alarm
    words = to_markdown([made], [KEPT, BROKEN])
    assert "- **kept**: A lite0" in words and "- **BROKEN**: D mobile" in words


def test_what_is_missing_is_said_first(made, tmp_path):
    latency = list(made.latency)
    latency[1] = replace(latency[1], noise=("the fixed loop took 14 % longer in 3 of 12 turns",))
    latency[2] = replace(latency[2], us=None, blocks=(), error="the child was killed")
    judged = list(made.accuracy.judged)
    judged[3] = replace(judged[3], error="out of memory")
    broken = replace(
        made,
        complete=False,
        missing=("Energy cannot be read.",),
        images=replace(made.images, broken=tuple(f"{i}.jpg: truncated" for i in range(5))),
        latency=tuple(latency),
        accuracy=replace(made.accuracy, judged=tuple(judged)),
    )
    page = page_of(tmp_path, broken)
    (alarm,) = page.text("div", "alarm")
    for words in (
        "Incomplete: the run did not reach its end", "Missing: Energy cannot be read.",
        "Unreadable: 5 files: 0.jpg: truncated; 1.jpg: truncated; 2.jpg: truncated; and 2 more",
        "Ended early: C, timing: the child was killed", "Ended early: D, answers: out of memory",
        "Noise: B: the fixed loop took 14 % longer",
    ):  # fmt: skip
        assert words in alarm
        assert words.split(": ", 1)[1][:20] in to_markdown([broken])
    assert page.source.index('role="note"') < page.source.index('id="summary"')


def test_a_run_that_has_only_begun(made, tmp_path):
    begun = replace(without(made, *PARTS), complete=False, latency=(
        replace(made.latency[0], us={"decode": (), "whole": ()}, blocks=(), cold_ms=(),
                cold_kib=(), load_ms=(), images_per_s=(), peak_kib=0),
    ))  # fmt: skip
    page = page_of(tmp_path, begun)
    assert page.sections == ["summary", "latency", "conditions"]
    nobody = replace(without(made, *PARTS), candidates=(), complete=False)
    assert "Incomplete" in page_of(tmp_path, nobody).text("div", "alarm")[0]
    assert tables_of(to_markdown([begun]))


HOSTILE = (
    '<script>alert("1")</script>', "{{ 7 * 7 }}{% raw %}", "two\nlines\x00 and", "half \ud800 one",
    "turned \u202e round", "果物 🍏", "x" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(made, tmp_path, name):
    labels = tuple((name, *label) for label in made.candidates[0].labels)
    accuracy, robustness = made.accuracy, made.robustness
    key = {c.key: f"{name}{c.key}" for c in made.candidates}
    pairs = tuple(
        replace(pair, a=key[pair.a], b=key[pair.b],
                flips=tuple(replace(flip, a=(name,), picture=f'"><img src={name}>')
                            for flip in pair.flips))
        for pair in accuracy.pairs
    )  # fmt: skip
    wild = replace(
        made,
        title=name,
        missing=(name,),
        host=replace(made.host, cpu=name, versions={name: name}),
        images=replace(made.images, source=name, broken=(name,)),
        candidates=tuple(
            replace(c, key=key[c.key], name=name, file=name, target=name, device=name,
                    labels=labels)
            for c in made.candidates
        ),
        latency=tuple(replace(one, key=key[one.key], noise=(name,)) for one in made.latency),
        accuracy=replace(
            accuracy, names=(name,) * len(accuracy.names), truths=(labels[0],) * 32, pairs=pairs,
            judged=tuple(replace(one, key=key[one.key]) for one in accuracy.judged),
        ),
        robustness=replace(
            robustness,
            groups={f"{name}{corruption}": name for corruption in robustness.groups},
            cells=tuple(
                replace(one, key=key[one.key], corruption=f"{name}{one.corruption}")
                for one in robustness.cells
            ),
        ),
    )  # fmt: skip
    outcome = [Outcome(False, name)]
    shown = page_of(tmp_path, wild, outcomes=outcome)
    tame = page_of(tmp_path, made, outcomes=[BROKEN])
    assert {e["tag"] for e in shown.elements} <= {e["tag"] for e in tame.elements} | {"h2"}
    assert not shown.all("script") and not shown.all("img")
    assert not set("\x00\u202e") & set(shown.source)
    assert "\n## Summary\n" in to_markdown([wild], outcome)
    to_markdown([wild], outcome).encode()
    if name.startswith("<"):
        assert "&lt;script&gt;alert(" in shown.source
        assert "<script" not in to_markdown([wild], outcome).replace(r"\<script", "")
    if name.startswith("{"):
        assert shown.text("h1") == [name]


def test_several_documents(made, other, tmp_path):
    page = page_of(tmp_path, made, other)
    table = summary_table(sides_of([made, other]))
    assert [row[0].text for row in table.rows] == [f"{n}{k}" for n in (1, 2) for k in "ABCD"]
    cards = page.text("div", "card")
    assert cards[0].startswith("Document 1: Grocery") and "Cortex-A53" in cards[1]
    assert "Across documents" in page.text("h3")
    words = to_markdown([made, other])
    (row,) = [line for line in words.splitlines() if line.startswith("| 1A, 2A |")]
    assert row.startswith("| 1A, 2A | cpu on Cortex-A76 | cpu on Cortex-A53 | 32 | 0 | 100.00 (")
    assert len([e for e in page.all("svg") if "over the median latency" in e["aria-label"]]) == 1


def test_answers_of_another_device_are_counted(made, other):
    """Two of 32 answers differ."""
    judged = list(other.accuracy.judged)
    best = judged[0].best
    judged[0] = replace(judged[0], best=(best[0] + 1, best[1] + 1, *best[2:]))
    changed = replace(other, accuracy=replace(other.accuracy, judged=tuple(judged)))
    words = to_markdown([made, changed])
    assert "| 1A, 2A | cpu on Cortex-A76 | cpu on Cortex-A53 | 32 | 2 | 93.75 (" in words
    matrix = words.split("### Who agrees with whom")[1].split("###")[0]
    (row,) = [line for line in matrix.splitlines() if line.startswith("| 1A |")]
    assert row.split(" | ")[5] == "93.75"


def test_other_images_have_a_plot_of_their_own(made, other, tmp_path):
    moved = replace(other, images=replace(other.images, digest="77" * 32))
    page = page_of(tmp_path, made, moved)
    plots = [e for e in page.all("svg") if "over the median latency" in e["aria-label"]]
    assert len(plots) == 2
    assert any("cannot be compared" in note for note in page.text("p", "note"))
    assert "Across documents" not in page.text("h3")


def test_flips_beyond_the_first(made, tmp_path):
    pair = made.accuracy.pairs[0]
    many = replace(pair, flips=pair.flips[:1] * 40)
    page = page_of(tmp_path, replace(made, accuracy=replace(made.accuracy, pairs=(many,))))
    assert len(page.all("img")) == 24
    assert "40 images with two labels, of which the 24 most certain are shown." in page.text("p")


def test_markdown_needs_the_light_install_alone():
    code = "import sys, edge_fgr_bench.markdown; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"jinja2", "matplotlib", "torch", "onnx", "scipy", "sklearn", "edge_fgr_train"}
    assert not heavy & set(loaded.stdout.split())
