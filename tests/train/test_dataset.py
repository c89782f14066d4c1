"""Folders to classes, and hold-out lists that keep near-duplicates together."""

from __future__ import annotations

import shutil

import pytest

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_train.dataset import class_of, digest_of, labels_of, read_list, scan
from edge_fgr_train.duplicates import groups_of, hold_out, main
from pictures import opened


def place(photo, *parts):
    path = parts[0].joinpath(*parts[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, path)
    return path


def test_depths_may_differ_and_order_is_fixed(tmp_path, photos):
    place(photos[1], tmp_path, "b", "x, y", "2.JPG")
    place(photos[0], tmp_path, "a", "1.jpg")
    place(photos[2], tmp_path, "b", "ä", "deep", "-3.png")
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.jpg").write_bytes(b"")
    samples = scan(tmp_path)
    assert [sample.name for sample in samples] == ["a/1.jpg", "b/x, y/2.JPG", "b/ä/deep/-3.png"]
    assert labels_of(samples) == (("a",), ("b", "x, y"), ("b", "ä", "deep"))
    assert [class_of(sample.name, ()) for sample in samples] == [s.label for s in samples]


def test_splits_stand_before_the_class(tmp_path, photos):
    place(photos[0], tmp_path, "train", "a", "1.jpg")
    place(photos[1], tmp_path, "val", "a", "2.jpg")
    samples = scan(tmp_path, ("train", "val"))
    assert {sample.label for sample in samples} == {("a",)}
    assert class_of(samples[1].name, ("train", "val")) == ("a",)


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


def test_digest_sees_names_and_contents(tmp_path, photos):
    place(photos[0], tmp_path, "a", "1.jpg")
    second = place(photos[1], tmp_path, "a", "2.jpg")
    before = digest_of(scan(tmp_path))
    assert digest_of(scan(tmp_path)[::-1]) == before
    shutil.copy(photos[2], second)
    changed = digest_of(scan(tmp_path))
    second.rename(second.with_name("3.jpg"))
    assert len({before, changed, digest_of(scan(tmp_path))}) == 3


def test_near_duplicates_stay_together(tmp_path, photos):
    for i, photo in enumerate(photos[:12]):
        place(photo, tmp_path, "a", f"{i}.jpg")
    opened(photos[0]).resize((200, 200)).save(tmp_path / "a" / "0-small.jpg", quality=60)
    samples = scan(tmp_path)
    groups = dict(zip([sample.path.stem for sample in samples], groups_of(samples), strict=True))
    assert groups["0"] == groups["0-small"]
    assert len(set(groups.values())) == 12
    chosen = {sample.path.stem for sample in hold_out(samples, 3)}
    assert len(chosen) in (3, 4) and ("0" in chosen) == ("0-small" in chosen)
    assert hold_out(samples, 3) == hold_out(samples, 3)


def test_list_is_written_and_read(tmp_path, photos):
    for i, photo in enumerate(photos[:8]):
        place(photo, tmp_path, "data", "train", f"class {i % 2}", f"{i}.jpg")
    main([str(tmp_path / "data"), "-o", str(tmp_path / "list.txt"), "--per-class", "1"])
    names = read_list(tmp_path / "list.txt")
    assert len(names) == 2 and all((tmp_path / "data" / name).exists() for name in names)
    with pytest.raises(InputMissingError):
        read_list(tmp_path / "absent.txt")
