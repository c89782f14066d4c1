"""The benches of the device measure what they say; how fast anything is, is no test."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr_bench import enrolled, folder, held_out, overhead, steady, warm


@pytest.fixture(scope="module")
def model():
    return open_model(device="cpu")


def test_enlarged_photos_are_decoded_at_a_fraction(model, photos, tmp_path):
    large = tmp_path / "large.jpg"
    warm.enlarge(photos[0], large, 0)
    geometry = model.contract.geometry
    assert opened_size(large) in (warm.SIZE, warm.SIZE[::-1])
    scaled, full = load(large, geometry), warm.by_hand(large, geometry)
    assert scaled.shape == full.shape and not np.array_equal(scaled, full)
    # What scaled decoding may change; 0.6 was measured on other photos.
    assert np.abs(scaled.astype(int) - full.astype(int)).mean() < 1.5
    figures = warm.measure(model, photos[:2])
    assert figures.photos == 2 and figures.agree == 1 and figures.ratio > 0


def opened_size(path):
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def test_a_folder_against_its_limit(model, tmp_path):
    paths = folder.write_folder(tmp_path, 40)
    assert len(set(paths)) == 40 and opened_size(paths[0]) == (640, 480)
    rate = folder.measure(model, paths, rounds=1, workers=2)
    assert rate.share > 0 and rate.decode_ms > 0 and rate.infer_ms > 0


def test_overhead_is_a_difference(model):
    found = overhead.overhead(model, rounds=3, coverage=0.95)
    assert set(found) == {"call_ms", "run_ms", "overhead_ms"}


def test_memory_is_read(model):
    found = steady.measure(model, 1200)
    assert found.calls == 1200 and 0 < found.warm <= found.most


@pytest.mark.parametrize("bench", [folder, overhead, steady])
def test_json(bench, capsys, monkeypatch):
    small = {
        folder: ["--images", "8", "--rounds", "1"],
        overhead: ["--rounds", "2"],
        steady: ["--calls", "40", "--tolerance", "1"],
    }
    monkeypatch.setattr("sys.argv", ["bench", *small[bench], "--json"])
    assert bench.main() == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1


def test_a_folder_without_photos(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["warm", str(tmp_path)])
    assert warm.main() == 2
    assert "no photos" in capsys.readouterr().err


def test_every_class_is_left_out_once(model):
    parts = held_out.left_out()
    assert len(parts) == held_out.DRAWS
    assert sorted(label for part in parts for label in part) == sorted(model.contract.labels)
    assert parts == held_out.draw(sorted(model.contract.labels))


def test_enrolled_lists_name_classes_that_are_left_out():
    for part, photos in zip(held_out.left_out(), enrolled.chosen(), strict=True):
        assert len(photos) == enrolled.CLASSES
        for name, files in photos.items():
            assert tuple(name.split("/")) in part
            assert len(set(files)) == enrolled.PHOTOS
            assert all(file.startswith(f"train/{name}/") for file in files)


def test_enrolment_is_judged_with_and_without(tmp_path, model, photos):
    """A made-up class of photos that the model knows: all of them are taken from it."""
    import shutil

    for i, photo in enumerate(photos[:6]):
        home = tmp_path / ("train" if i < 2 else "val") / "Blue"
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, home / f"{i}.jpg")
    known = tmp_path / "val" / "Fruit" / "Banana"
    known.mkdir(parents=True)
    shutil.copy(next(p for p in photos if "Banana" in p.name), known)
    lists = {"Blue": [f"train/Blue/{i}.jpg" for i in range(2)]}
    found = enrolled.measure(model.path, tmp_path, lists, "val")
    assert (found.new_images, found.old_images, found.old_before) == (4, 1, 1.0)
