"""Folders to samples: depths, splits, links, names, and what cannot be meant."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from trees import place

from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError, UsageError
from edge_fgr_train.dataset import (
    Dataset,
    Sample,
    digest_of,
    labels_of,
    read_list,
    scan,
    survey,
)


def test_depths_may_differ_and_order_is_fixed(tmp_path, photos):
    place(photos[1], tmp_path, "b", "x, y", "2.JPG")
    place(photos[0], tmp_path, "a", "1.jpg")
    place(photos[2], tmp_path, "b", "ä", "deep", "-3.png")
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.jpg").write_bytes(b"")
    samples = scan(tmp_path)
    assert [sample.name for sample in samples] == ["a/1.jpg", "b/x, y/2.JPG", "b/ä/deep/-3.png"]
    assert labels_of(samples) == (("a",), ("b", "x, y"), ("b", "ä", "deep"))


def test_splits_stand_before_the_class(tmp_path, photos):
    place(photos[0], tmp_path, "train", "a", "1.jpg")
    place(photos[1], tmp_path, "more", "val", "a", "2.jpg")
    samples = scan(tmp_path, ("train", "more/val"))
    assert {sample.label for sample in samples} == {("a",)}
    assert [sample.split for sample in samples] == ["train", "more/val"]
    for split in ("../x", str(tmp_path)):
        with pytest.raises(UsageError, match="inside it"):
            scan(tmp_path, (split,))


def test_samples_of_a_split():
    one, two, three = (Sample(n, Path(n), ("a",), n[0]) for n in ("t1", "v2", "t3"))
    data = Dataset("here", ("t", "v"), (one, two, three))
    assert data.of() == [one, two, three]
    assert data.of("v", "t") == [two, one, three]
    with pytest.raises(UsageError, match="no split x; known: t, v"):
        data.of("x")


def test_folders_that_cannot_be_meant(tmp_path, photos):
    with pytest.raises(InputMissingError):
        scan(tmp_path / "absent")
    with pytest.raises(InputMissingError, match="holds no images"):
        scan(tmp_path)
    place(photos[0], tmp_path, "a", "1.jpg")
    place(photos[0], tmp_path, "a", "b", "1.jpg")
    with pytest.raises(UsageError, match="both images and classes"):
        scan(tmp_path)
    place(photos[0], tmp_path, "0.jpg")
    with pytest.raises(UsageError, match="outside any class"):
        scan(tmp_path)


def test_an_empty_class_is_no_class(tmp_path, photos):
    place(photos[0], tmp_path, "a", "x", "1.jpg")
    (tmp_path / "a" / ".cache").mkdir()
    assert len(scan(tmp_path)) == 1
    (tmp_path / "a" / "y").mkdir()
    (tmp_path / "a" / "y" / "readme.txt").write_text("soon")
    with pytest.raises(UsageError, match=r"a.y: an empty class; add photos or remove the folder"):
        scan(tmp_path)


def test_survey_goes_on_after_a_problem(tmp_path, photos):
    place(photos[0], tmp_path, "train", "0.jpg")
    place(photos[0], tmp_path, "train", "a", "1.jpg")
    place(photos[0], tmp_path, "train", "b", "1.jpg")
    place(photos[0], tmp_path, "train", "b", "c", "1.jpg")
    (tmp_path / "train" / "d").mkdir()
    found = survey(tmp_path, ("train", "val"))
    problems = [str(item) for item in found if isinstance(item, EdgeFgrError)]
    samples = [item.name for item in found if isinstance(item, Sample)]
    assert samples == ["train/a/1.jpg", "train/b/c/1.jpg"]
    words = ("outside any class", "both images and classes", "empty class", "no such folder")
    assert len(problems) == 4
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path, photos):
    place(photos[0], tmp_path, "elsewhere", "1.jpg")
    place(photos[1], tmp_path, "data", "a", "x", "2.jpg")
    place(photos[2], tmp_path, "data", "b", "y", "3.jpg")
    for name, target in (("c", "elsewhere"), ("up", "data"), ("a/b", "data/b"), ("b/a", "data/a")):
        (tmp_path / "data" / name).symlink_to(tmp_path / target)
    names = [sample.name for sample in scan(tmp_path / "data")]
    assert names == ["a/b/y/3.jpg", "a/x/2.jpg", "b/a/x/2.jpg", "b/y/3.jpg", "c/1.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_not_utf8(tmp_path, photos):
    (tmp_path / "a").mkdir()
    shutil.copy(photos[0], os.fsencode(tmp_path / "a") + b"/\xff.jpg")
    with pytest.raises(UsageError, match="not UTF-8"):
        scan(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read(tmp_path, photos):
    place(photos[0], tmp_path, "a", "1.jpg")
    place(photos[0], tmp_path, "b", "1.jpg")
    (tmp_path / "b").chmod(0)
    try:
        with pytest.raises(PermissionDeniedError):
            scan(tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_digest_sees_names_and_contents(tmp_path, photos):
    place(photos[0], tmp_path, "a", "1.jpg")
    second = place(photos[1], tmp_path, "a", "2.jpg")
    before = digest_of(scan(tmp_path))
    assert digest_of(scan(tmp_path)[::-1]) == before
    shutil.copy(photos[2], second)
    changed = digest_of(scan(tmp_path))
    second.rename(second.with_name("3.jpg"))
    assert len({before, changed, digest_of(scan(tmp_path))}) == 3


def test_digest_of_folders_is_what_it_always_was_and_sees_other_labels(tmp_path, photos):
    place(photos[0], tmp_path, "train", "a", "b", "1.jpg")
    (sample,) = scan(tmp_path, ("train",))
    whole = hashlib.sha256(b"train/a/b/1.jpg\0")
    whole.update(hashlib.sha256(photos[0].read_bytes()).digest())
    assert digest_of([sample]) == whole.hexdigest()
    others = [replace(sample, label=label) for label in (("b",), ("a",), ("a", "c"), ("a/b",))]
    assert len({digest_of([other]) for other in (sample, *others)}) == 5


def test_list_of_names(tmp_path):
    (tmp_path / "list.txt").write_text("# why\na/1.jpg\n\n b/2.jpg\n")
    assert read_list(tmp_path / "list.txt") == {"a/1.jpg", "b/2.jpg"}
    with pytest.raises(InputMissingError):
        read_list(tmp_path / "absent.txt")
