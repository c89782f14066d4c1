"""The long tail: its committed list, its figures by hand, and real trainings of a small network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_bench import long_tail, trained
from edge_fgr_bench.long_tail import LIST, compare, main, thinned
from edge_fgr_bench.tail_figures import figures_of, thirds
from edge_fgr_train.dataset import Sample, read_list, scan

SMALL = ["optimise.epochs=1", "optimise.batch=8"]


def test_the_committed_list_is_a_long_tail():
    names = read_list(LIST)
    counts = Counter(name.rpartition("/")[0] for name in names)
    assert all(name.startswith("train/") for name in names)
    assert len(counts) == 81 and (max(counts.values()), min(counts.values())) == (50, 1)
    assert f"# {len(names)} images" in LIST.read_text() and sum(counts.values()) == len(names)


def samples(counts):
    return [
        Sample(f"train/{label}/{i:03}.jpg", Path(f"{label}/{i:03}.jpg"), (label,), "train")
        for label, count in counts.items()
        for i in range(count)
    ]


def test_thinned_exponentially_and_never_by_chance():
    given = samples({f"c{i}": 60 for i in range(9)} | {"small": 7})
    kept = thinned(given)
    assert kept == thinned(given[::-1]) and len(set(kept)) == len(kept)
    counts = sorted(Counter(sample.label for sample in kept).values(), reverse=True)
    wanted = [round(50 * 50 ** (-i / 9)) for i in range(10)]
    assert len(counts) == 10 and counts[0] == 50 and counts[-1] == 1
    assert all(count in (*wanted, 7) for count in counts)  # small kept all, or what it should


def test_no_class_is_large_enough():
    with pytest.raises(UsageError, match="50 images in one"):
        thinned(samples({"a": 49, "b": 20, "c": 3}))


def test_thirds():
    rare, middle, frequent = thirds(np.array([9, 1, 5, 1, 7, 2, 3]))
    assert (rare.tolist(), middle.tolist(), frequent.tolist()) == ([1, 3], [5, 6, 2], [4, 0])


def test_figures_by_hand():
    counts = np.array([9, 3, 1])  # class 2 is the rarest third
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    base = np.array([[0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]])
    said = np.array([[0, 0, 0, 1, 1, 0, 2, 2], [0, 0, 0, 1, 1, 0, 2, 0]])
    made = figures_of(counts, truth, said, base)
    assert (made.fitted, made.judged, made.classes, made.seeds) == (13, 8, 3, 2)
    assert (made.rarest.value, made.middle.value, made.frequent.value) == (0.75, 0.5, 0.75)
    assert made.macro.value == pytest.approx((0.75 + 0.5 + 0.75) / 3)
    assert made.top1.value == pytest.approx((3 + 1 + 1.5) / 8)
    assert made.rarest_gain.value == 0.75 and made.frequent_gain.value == -0.25
    assert (made.rarest_gain.low, made.rarest_gain.high) == (0.5, 1.0)
    assert made.middle_gain.low == made.middle_gain.high == 0  # the same answers, in pairs
    assert figures_of(counts, truth, base, base).macro_gain.high == 0


def test_interval_is_that_of_a_share():
    """Of 400 images of a class: 1.96 standard errors around it."""
    truth, counts = np.repeat([0, 1, 2], 400), np.array([3, 2, 1])
    said = truth.copy()
    said[:100] = 1
    made = figures_of(counts, truth, said[None], truth[None])
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert made.frequent.low == pytest.approx(0.75 - half, abs=0.005)
    assert made.frequent_gain.high == pytest.approx(-0.25 + half, abs=0.005)


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    root = tmp_path_factory.mktemp("tail")
    for i, photo in enumerate(photos):
        label = photo.name.split("_")[0]
        for split in ("train", "val") if i % 4 == 0 else ("train",):
            (root / split / label).mkdir(parents=True, exist_ok=True)
            (root / split / label / photo.name).write_bytes(photo.read_bytes())
    return root


def test_trained_judged_and_not_done_again(data, tmp_path, monkeypatch):
    names = frozenset(sample.name for sample in scan(data, ("train",))[::2])
    plans = {"base": SMALL, "sampled": [*SMALL, "balance.sampler=sqrt"]}
    found = compare(data, tmp_path, "teaching", plans, [3], names=names)
    assert found["base"].fitted == len(names) and found["base"].judged == 8
    run = json.loads((tmp_path / "sampled" / "3" / "run" / "run.json").read_text())
    assert run["recipe"]["balance"]["sampler"] == "sqrt" and run["recipe"]["optimise"]["seed"] == 3
    assert len(run["fit"]) == len(names) and not run["evaluate"]

    monkeypatch.setattr(trained.subprocess, "run", None)  # would fail
    assert compare(data, tmp_path, "teaching", plans, [3], names=names) == found
    with pytest.raises(UsageError, match="another recipe or other images"):
        compare(data, tmp_path, "teaching", {"base": SMALL[:1]}, [3], names=names)
    table = "\n".join(long_tail._lines(found))
    adjusted = compare(data, tmp_path, "teaching", plans, [3], names=names, taus=[0.0, 9.0])
    assert adjusted["base tau 0"] == found["base"] != adjusted["base tau 9"]
    assert list(adjusted) == ["base", "base tau 0", "base tau 9", "sampled"]
    assert "sampled less base, points:" in table and "8 judged, 1 seeds" in table


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "OUT is missing"),
        (["out", "--seeds", "a"], "numbers with commas"),
        (["out", "--taus", "0;1"], "numbers with commas"),
        (["out", "--name", "base", "--set", "balance.tau=1"], "choose another"),
    ],
)
def test_what_cannot_be_meant(data, more, said, capsys):
    assert main([str(data), *more]) == 2
    assert said in capsys.readouterr().err


def test_other_data_are_refused(data, tmp_path, capsys):
    assert main([str(data), str(tmp_path / "out")]) == InputMissingError.exit_code
    assert "which the list names" in capsys.readouterr().err
