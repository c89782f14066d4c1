"""The digest of a model is noted, and never that of another content."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from edge_fgr.digests import digest_of


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000, 1_000_000))
    return path


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def notes(model):
    folder = model.parent / "cache" / "digests"
    return list(folder.iterdir()) if folder.exists() else []


def test_it_is_noted_once_the_file_has_settled(model):
    assert digest_of(model, noted=True) == sha(model)
    (note,) = notes(model)
    written = note.stat().st_mtime_ns
    assert digest_of(model, noted=True) == sha(model)
    assert note.stat().st_mtime_ns == written


def test_a_fresh_file_is_not_noted(model):
    os.utime(model)
    assert digest_of(model, noted=True) == sha(model)
    assert notes(model) == []


def test_off(model):
    assert digest_of(model, noted=False) == sha(model)
    assert notes(model) == []


def test_another_content_of_the_same_size_and_time_is_told(model):
    first = digest_of(model, noted=True)
    model.write_bytes(b"two")
    os.utime(model, (1_000_000, 1_000_000))
    assert digest_of(model, noted=True) == sha(model) != first


def test_a_file_that_is_put_in_its_place_is_told(model, tmp_path):
    digest_of(model, noted=True)
    other = tmp_path / "other"
    other.write_bytes(b"six")
    os.utime(other, (1_000_000, 1_000_000))
    other.replace(model)
    assert digest_of(model, noted=True) == sha(model)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 64 + b"\n"])
def test_a_damaged_note_is_none(model, damage):
    digest_of(model, noted=True)
    (note,) = notes(model)
    note.write_bytes(damage)
    assert digest_of(model, noted=True) == sha(model)


def test_a_cache_that_is_in_the_way_is_no_error(model):
    (model.parent / "cache").write_text("in the way")
    assert digest_of(model, noted=True) == sha(model)
    shutil.rmtree(model.parent / "cache", ignore_errors=True)


def test_a_file_that_is_not_there(model):
    with pytest.raises(OSError, match="No such file"):
        digest_of(model.with_name("none"), noted=True)
