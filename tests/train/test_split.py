"""Dividing data: near its shares, groups whole, the same in any order; indexes on disk."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from trees import place

from edge_fgr.errors import DataError, UsageError
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.check import check
from edge_fgr_train.data_command import run_split
from edge_fgr_train.dataset import Sample
from edge_fgr_train.split import split
from pictures import opened

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def made(sizes, label="a", group=0):
    """Samples and group numbers of one class, from the sizes of its groups."""
    samples = [
        Sample(f"{label}/{g}-{i}.jpg", Path("x"), (label,), "old")
        for g, size in enumerate(sizes)
        for i in range(size)
    ]
    groups = [group + g for g, size in enumerate(sizes) for _ in range(size)]
    return samples, groups


def count(samples):
    return Counter(sample.split for sample in samples)


def test_shares_are_met_in_every_class():
    samples, groups = [], []
    for c, size in enumerate((100, 40, 20, 7)):
        more, numbers = made([1] * size, label=f"c{c}", group=1000 * c)
        samples, groups = samples + more, groups + numbers
    divided = split(samples, groups, SHARES, seed=0)
    assert [s.name for s in divided] == sorted(s.name for s in samples)
    by_class = defaultdict(list)
    for sample in divided:
        by_class[sample.label[0]].append(sample)
    assert count(by_class["c0"]) == {"train": 70, "val": 15, "test": 15}
    assert count(by_class["c1"]) == {"train": 28, "val": 6, "test": 6}
    assert count(by_class["c2"]) == {"train": 14, "val": 3, "test": 3}
    assert count(by_class["c3"]) == {"train": 5, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([3], {"train": 3}),
        ([2, 1], {"train": 2, "val": 1}),
        ([1, 1, 1], {"train": 1, "val": 1, "test": 1}),
        ([9, 1, 1], {"train": 9, "val": 1, "test": 1}),
    ],
)
def test_the_first_split_comes_first_and_each_gets_a_group_if_it_can(sizes, wanted):
    assert count(split(*made(sizes), SHARES, seed=3)) == wanted
    upside_down = {"train": 0.1, "val": 0.1, "test": 0.8}
    assert count(split(*made(sizes), upside_down, seed=3))["train"] > 0


def test_groups_stay_whole_and_near_the_best_that_is_possible():
    drawn = random.Random(0)  # noqa: S311
    worse = 0
    for _ in range(60):
        sizes = [drawn.choice((1, 1, 2, 3, 5)) for _ in range(drawn.randint(3, 7))]
        samples, groups = made(sizes)
        divided = split(samples, groups, SHARES, seed=1)
        of = {sample.name: sample.split for sample in divided}
        assert len({(g, of[s.name]) for s, g in zip(samples, groups, strict=True)}) == len(sizes)

        def cost(found):
            whole = found.total()
            return sum(abs(found[name] - share * whole) for name, share in SHARES.items())

        best = min(
            cost(Counter({n: sum(s for s, c in zip(sizes, choice, strict=True) if c == n)
                          for n in SHARES}))
            for choice in itertools.product(SHARES, repeat=len(sizes))
            if set(choice) == set(SHARES)
        )  # fmt: skip
        worse += cost(count(divided)) > best + 1e-9
    assert worse <= 3


def test_swapping_groups_comes_nearer():
    samples, groups = made([3, 3, 2, 2, 2])
    assert count(split(samples, groups, {"a": 0.5, "b": 0.5}, seed=0)) == {"a": 6, "b": 6}


def test_order_does_not_matter_and_the_seed_does():
    samples, groups = made([1, 2] * 20)
    divided = split(samples, groups, SHARES, seed=0)
    pairs = list(zip(samples, groups, strict=True))
    random.Random(0).shuffle(pairs)  # noqa: S311
    renamed = [(sample, 999 - group) for sample, group in pairs]
    assert split(*zip(*renamed, strict=True), SHARES, seed=0) == divided
    assert split(samples, groups, SHARES, seed=1) != divided


def test_a_class_keeps_its_images_when_another_grows():
    samples, groups = made([1] * 30, "a")
    others, more = made([1] * 11, "b", group=100)
    before = split(samples + others[:-1], groups + more[:-1], SHARES, seed=0)
    after = split(samples + others, groups + more, SHARES, seed=0)
    assert [s for s in before if s.label == ("a",)] == [s for s in after if s.label == ("a",)]


def test_a_group_that_spans_classes_goes_to_the_first_split():
    samples, groups = made([2] + [1] * 18, "a")
    others, more = made([1] * 20, "b", group=100)
    more[0] = groups[0]
    divided = split(samples + others, groups + more, SHARES, seed=0)
    of = {sample.name: sample.split for sample in divided}
    assert {of["a/0-0.jpg"], of["a/0-1.jpg"], of["b/0-0.jpg"]} == {"train"}
    for label in ("a", "b"):
        assert count(s for s in divided if s.label == (label,)) == {
            "train": 14, "val": 3, "test": 3
        }  # fmt: skip


@pytest.fixture
def data(tmp_path, photos):
    for i, photo in enumerate(photos):
        path = place(photo, tmp_path, "data", f"class {i // 16}", f"{i}.jpg")
        if i % 3 == 0:
            opened(photo).save(path.with_name(f"{i}-again.jpg"), quality=50)
    return tmp_path / "data"


def test_an_index_without_leaks(data, tmp_path, capsys):
    run_split(str(data), tmp_path / "index.csv", "train=0.6,val=0.2,test=0.2", 5)
    said = capsys.readouterr().err
    dataset = open_dataset(tmp_path / "index.csv")
    assert dataset.splits == ("train", "val", "test") and len(dataset.samples) == 43
    assert [len(dataset.of(name)) for name in dataset.splits] == [26, 9, 8]
    assert not check(dataset).leaks
    assert "train 26, val 9, test 8 images of 2 classes; 11 groups of near-duplicates" in said
    texts = []
    for source in ("index", "again"):  # what splits there were makes no difference
        run_split(str(tmp_path / f"{source}.csv"), tmp_path / "again.csv", "train=.8,test=.2", 5)
        texts.append((tmp_path / "again.csv").read_bytes())
    assert texts[0] == texts[1]


def test_a_class_too_small_for_all_splits_is_named(data, tmp_path, photos, capsys):
    place(photos[0].with_name(photos[31].name), data, "lone", "1.jpg")
    opened(photos[5]).rotate(90).save(data / "lone" / "1.jpg")
    run_split(str(data), tmp_path / "index.csv", "train=0.8,test=0.2", 0)
    assert "test lacks 1 classes, first lone" in capsys.readouterr().err


def test_unreadable_files_are_no_part_of_an_index(data, tmp_path):
    (data / "class 0" / "0.jpg").write_bytes(b"broken")
    (data / "class 1" / "31.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 43 files cannot be read, first .*0\.jpg: not an i"):
        run_split(str(data), tmp_path / "index.csv", "train=0.8,test=0.2", 0)
    assert not (tmp_path / "index.csv").exists()


@pytest.mark.parametrize(
    "shares",
    ["", "train", "train=0.5", "train=0.5,train=0.5", "train=1.2,test=-0.2", "train=x,test=0.5",
     "train=nan,test=1", "=1", "train=1,test=0", "train=0.7,test=0.300002"],
)  # fmt: skip
def test_shares_that_cannot_be_meant(tmp_path, shares):
    with pytest.raises(UsageError, match="--shares"):
        run_split(str(tmp_path), tmp_path / "index.csv", shares, 0)
