"""Accuracy kept under corruptions: counted as the robustness part counts, and by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from small_models import failing, labelled_folder, linear, truth_of

from edge_fgr_bench import kept as module
from edge_fgr_bench.bench_images import find_images
from edge_fgr_bench.candidates import Plan
from edge_fgr_bench.kept import TYPES, kept, main
from edge_fgr_bench.robust import corrupted
from edge_fgr_bench.seats import open_seat


@pytest.fixture(scope="module")
def here(photos, tmp_path_factory):
    """A folder with labelled photos and a model that knows them by heart."""
    folder = tmp_path_factory.mktemp("kept")
    labelled_folder(photos, folder / "data")
    linear(folder / "heart.onnx", photos)
    linear(folder / "few.onnx", photos[:8])
    return folder


@pytest.fixture(scope="module")
def found(here):
    return kept(str(here / "heart.onnx"), str(here / "data"), split="", images=24)


def test_imagenet_c_has_fifteen():
    assert len(TYPES) == 15 and not {"hand_shake", "low_light"} & set(TYPES)


def test_the_same_counts_as_the_robustness_part(here, found):
    seat = open_seat(Plan("A", str(here / "heart.onnx"), "cpu"))
    whole = corrupted([seat], find_images(str(here / "data")), 24, 0)
    cells = {(one.corruption, one.severity): one.right for one in whole.cells}
    assert round(found.clean.value * 24) == cells["none", 0] == 24
    for name in TYPES:
        assert round(found.by_type[name].value * 24) == cells[name, 3]


def test_the_mean_and_what_is_kept_of_the_clean(found):
    values = [found.by_type[name].value for name in TYPES]
    assert found.mean.value == pytest.approx(np.mean(values))
    assert found.kept.value == pytest.approx(found.mean.value / found.clean.value)
    assert found.mean.low < found.mean.value < found.mean.high
    assert 0.2 < found.kept.value < 1 and found.twin is None
    assert (found.images, found.severity, found.left_out) == (24, 3, 0)


def test_it_repeats_itself_and_severity_costs(here, found):
    arguments = str(here / "heart.onnx"), str(here / "data"), "", 24
    assert kept(*arguments) == found
    assert kept(*arguments, severity=5).mean.value < found.mean.value
    assert kept(*arguments, seed=9).by_type != found.by_type


def test_a_twin_sees_the_same_pixels(here, found):
    arguments = str(here / "heart.onnx"), str(here / "data"), "", 24
    same = kept(*arguments, fp32=str(here / "heart.onnx")).twin
    assert same is not None and (same.less.value, same.less.low, same.less.high) == (0, 0, 0)
    assert same.by_type == found.by_type


def test_intervals_count_an_image_once():
    """Fifteen copies of an image that fall together tell no more than one of them."""
    clean = np.ones(40, bool)
    image = np.arange(40) < 20
    together = np.stack([clean, *([image] * 15)])
    apart = np.stack([clean, *(np.roll(image, 20 * (i % 2)) for i in range(15))])
    wide, narrow = (module._figures([rows], 0, 3, 0).mean for rows in (together, apart))
    assert wide.value == pytest.approx(0.5) and wide.high - wide.low > 0.25
    assert narrow.high - narrow.low < 0.05
    pair = module._figures([together, np.stack([clean, *([~image] * 15)])], 0, 3, 0).twin
    assert pair is not None and pair.less.value == pytest.approx(0) and pair.less.high > 0.2
    better = module._figures(
        [together, np.stack([clean, *([image & (image.cumsum() > 4)] * 15)])], 0, 3, 0
    )
    assert better.twin is not None and better.twin.less.value == pytest.approx(0.1)
    assert better.twin.less.low > 0 and better.twin.kept.value == pytest.approx(0.4)


def test_table_and_json(here, capsys):
    arguments = [str(here / "heart.onnx"), str(here / "data"), "--split", "", "--images", "6"]
    twin = ["--fp32", str(here / "heart.onnx")]
    assert main([*arguments, *twin]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 images, severity 3") and len(lines) == 22
    assert lines[-1].startswith("model less fp32, mean of the types: +0.00 points")
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    made = kept(arguments[0], arguments[1], "", 6)
    assert record["by_type"] == asdict(made)["by_type"] and record["twin"] is None


@pytest.mark.parametrize(
    ("more", "says", "code"),
    [
        (["--severity", "6"], "--severity 6: is 1 to 5", 2),
        (["--images", "0"], "at least 1", 2),
        (["--seed", "-1"], "at least 0", 2),
        (["--fp32", "few.onnx"], "other classes", 2),
        (["--fp32", "gone.onnx"], "gone.onnx", 66),
        (["--split", "test"], "test", 66),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(here, monkeypatch, capsys, more, says, code):
    monkeypatch.chdir(here)
    arguments = ["heart.onnx", "data", *([] if "--split" in more else ["--split", ""])]
    assert main([*arguments, *more]) == code
    told = capsys.readouterr().err.splitlines()
    assert says in told[-1]


def test_unknown_classes_and_models_that_know_or_answer_nothing(here, photos, tmp_path, capsys):
    labels = sorted({truth_of(photo) for photo in photos})
    data = labelled_folder(photos[:4], tmp_path / "data")
    (tmp_path / "data" / "Strange").mkdir()
    (tmp_path / "data" / "Strange" / "1.jpg").write_bytes(photos[9].read_bytes())
    found = kept(str(here / "heart.onnx"), str(data), "", 24)
    assert (found.images, found.left_out) == (4, 1)
    strange = labelled_folder(photos[-2:], tmp_path / "other")
    assert main([str(here / "few.onnx"), str(strange), "--split", ""]) == 2
    assert "no image of a class that" in capsys.readouterr().err
    never = failing(tmp_path / "never.onnx", labels[::-1], photos[-1])  # says the last class of all
    assert main([str(never), str(data), "--split", ""]) == 78
    assert "knows none of the 4 images as they are" in capsys.readouterr().err
    nan = failing(tmp_path / "nan.onnx", labels, photos[0], nan=True)
    assert main([str(nan), str(data), "--split", ""]) == 78
    assert "no numbers" in capsys.readouterr().err
