"""Peers side by side: turns, ratios and their words, rows of who is missing, the page.

Only edge-fgr and the script by hand run here, in the tests' own environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_fgr.errors import InputMissingError, UnavailableError, UsageError
from edge_fgr.image import load
from edge_fgr.model import embedded, open_model
from edge_fgr_bench.speed import Ratio

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
sys.path.insert(0, str(FOLDER))

from by_hand import pixels  # noqa: E402
from child import Child, last_words  # noqa: E402
from feedable import write_feedable  # noqa: E402
from harness import Spec  # noqa: E402
from report import BEGIN, END, markdown, rows, table, told_in, word  # noqa: E402
from roster import OURS, PEERS  # noqa: E402
from samples import Samples, cold  # noqa: E402

MODEL = embedded()["grocery81"]


def spec_of(geometry, folder="", **changes):
    fields = ("size", "short_side", "resize", "kernel", "exif", "roi")
    told = {name: getattr(geometry, name) for name in fields}
    rest = {"feedable": None, "tflite": None, "network": "", "labels": [], "cores": 2}
    return Spec(model=str(MODEL), scratch=str(folder), **{**rest, **told, **changes})


@pytest.fixture(scope="module")
def venvs(tmp_path_factory):
    """Environments of edge-fgr and of the script by hand, both this one; the others are missing."""
    folder = tmp_path_factory.mktemp("venvs")
    for name in ("edge-fgr", "bare"):
        (folder / name).symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def done(venvs, tmp_path_factory, photos):
    """One run of the command: its text, its JSON, its page."""
    folder = tmp_path_factory.mktemp("peers")
    images = folder / "images"
    images.mkdir()
    for photo in photos[:5]:
        (images / photo.name).write_bytes(photo.read_bytes())
    page = folder / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\noutdated\n{END}\n\nAfter.\n")
    command = [sys.executable, FOLDER / "run.py", "--venvs", venvs, "--images", images]
    options = ["--only", "bare,openvino,litert", "--rounds", "2", "--docs", page]
    run = subprocess.run(
        [*command, *options, "--json", folder / "found.json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, json.loads((folder / "found.json").read_text()), page.read_text()


def test_both_give_samples_in_every_round_and_the_same_labels(done):
    _, found, _ = done
    for name in (OURS, "bare onnxruntime"):
        samples = found["samples"][name]
        assert samples["failed"] == "" and samples["threads"] == "1"
        assert [len(samples[key]) for key in ("cold_ms", "cold_kib", "folder_s")] == [2, 2, 2]
        assert [len(took) for took in samples["warm_ms"]] == [5, 5]
        assert samples["install_bytes"] > 1e8 and samples["warm_kib"] > 1e4
        assert samples["versions"]["onnxruntime"]
        assert len(samples["labels"]) == 5
        assert samples["labels"] == found["samples"][OURS]["labels"]


def test_json_has_its_keys(done):
    _, found, _ = done
    assert found["schema_version"] == 1 and found["kind"] == "peers"
    assert {"cpu", "cores", "python", "system"} <= set(found["host"])
    assert found["model"]["digest"] == open_model(MODEL, device="cpu").id.digest
    assert found["settings"]["rounds"] == 2 and len(found["settings"]["images"]) == 5
    assert found["settings"]["folder_images"] == 130  # the five, until there are 128
    by_hand = found["figures"][1]
    assert by_hand["peer"] == "bare onnxruntime" and by_hand["same"] == by_hand["of"] == 5
    assert set(by_hand["ratios"]) == set(by_hand["words"])
    assert set(by_hand["ratios"]["cold"]) == {"median", "low", "high"}
    assert found["figures"][0]["ratios"] == {}


def test_who_is_not_set_up_says_so_and_the_others_are_kept(done):
    text, found, page = done
    missing = found["samples"]["OpenVINO"]
    assert missing["failed"].startswith("not set up: ") and missing["cold_ms"] == []
    for shown in (text, page):
        assert "OpenVINO: not set up: " in shown and "make bench-peers" in shown
        assert "LiteRT: not set up: " in shown
        assert "5 of 5" in shown


def test_page_keeps_what_is_around(done):
    *_, page = done
    assert page.startswith(f"# Before\n\n{BEGIN}\n") and page.endswith(f"\n{END}\n\nAfter.\n")
    assert "outdated" not in page and "| bare onnxruntime |" in page and "grocery81 version" in page


def test_a_page_without_markers_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(InputMissingError, match="no such file"):
        told_in(page, "new")
    page.write_text(f"{END}\n{BEGIN}\n")
    with pytest.raises(UsageError, match="lacks the lines"):
        told_in(page, "new")
    assert page.read_text() == f"{END}\n{BEGIN}\n"


@pytest.mark.parametrize(
    ("share", "time", "size"),
    [
        (Ratio(1.5, 1.2, 1.8), "faster", "smaller"),
        (Ratio(0.8, 0.7, 0.9), "slower", "larger"),
        (Ratio(1.1, 0.9, 1.3), "no difference", "no difference"),
        (Ratio(1.2, 1.0, 1.3), "no difference", "no difference"),
        (Ratio(1.0, 1.0, 1.0), "equal", "equal"),
    ],
)
def test_quartiles_decide_the_word(share, time, size):
    assert word(share) == time
    assert word(share, size=True) == size


def test_figures_from_samples():
    ours = Samples(
        cold_ms=[100.0, 120.0, 110.0],
        cold_kib=[1024, 2048, 1024],
        warm_ms=[[4.0, 5.0, 60.0], [6.0, 5.0, 4.0], [5.0, 5.0, 5.0]],
        warm_kib=2048,
        folder_s=[2.0, 1.0, 4.0],
        install_bytes=2_000_000,
        labels=[1, 2, 3],
    )
    slow = Samples(
        failed="failed: later",
        cold_ms=[200.0, 360.0],  # it left after two rounds
        cold_kib=[512, 1024],
        warm_ms=[[10.0, 10.0, 10.0]] * 3,
        warm_kib=2048,
        folder_s=[1.0, 0.5, 2.0],
        install_bytes=1_000_000,
        labels=[1, 2, 4],
    )
    mine, other, absent = rows({OURS: ours, "slow": slow, "absent": Samples()}, 10)
    assert (mine.cold_ms, mine.image_ms, mine.images_s, mine.memory_mib) == (110, 5, 5, 2)
    assert other.ratios["cold"].median == 2.5 and other.words["cold"] == "faster"
    assert other.ratios["one image"] == Ratio(2, 2, 2)
    assert other.ratios["folder"] == Ratio(0.5, 0.5, 0.5) and other.words["folder"] == "slower"
    assert other.words["memory"] == "equal" and other.words["installed"] == "larger"
    assert other.words["cold memory"] == "larger"
    assert (other.same, other.of, other.installed_mb) == (2, 3, 1.0)
    assert absent.cold_ms is absent.same is None and absent.ratios == {}
    text = table([mine, other, absent])
    assert "slower: 0.50 (0.50 to 0.50)" in text and "slow: failed: later" in text
    assert "larger: 0.50" in text and "2 of 3" in text
    lines = [line for line in markdown([mine, other], "Made so.").splitlines() if "|" in line]
    assert {line.count("|") for line in lines} == {10, 8}


def test_labels_of_random_weights_are_not_judged():
    eager = Samples(labels=[None, None])
    ours, other = rows({OURS: Samples(labels=[1, 2]), "PyTorch eager": eager}, 2)
    assert other.same is None and "not applicable" in table([ours, other])


def test_all_scripts_and_requirements_are_there():
    for peer in PEERS:
        assert (FOLDER / peer.script).is_file()
        assert (FOLDER / "requirements" / f"{peer.environment}.txt").is_file()


def test_pixels_by_hand_are_those_of_the_contract(photos):
    """All photos are too small for scaled decoding, so nothing may differ."""
    geometry = open_model(MODEL, device="cpu").contract.geometry
    for photo in photos[:6]:
        np.testing.assert_array_equal(pixels(str(photo), spec_of(geometry)), load(photo, geometry))
    changes = {"short_side": 300, "roi": (0.1, 0.2, 0.9, 0.8)}
    other = type(geometry)(size=256, kernel="bilinear", **changes)
    np.testing.assert_array_equal(pixels(str(photos[0]), spec_of(other)), load(photos[0], other))


def test_a_float_input_gives_the_same_labels(photos, tmp_path):
    import onnxruntime

    model = open_model(MODEL, device="cpu")
    write_feedable(MODEL, model.contract, tmp_path / "feedable.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "feedable.onnx")
    told = session.get_modelmeta().custom_metadata_map
    assert told["task"] == "classify" and "Fruit/Banana" in told["names"]
    batch = np.stack([load(photo, model.contract.geometry) for photo in photos[:4]])
    floats = np.float32(batch.transpose(0, 3, 1, 2)) / np.float32(255)
    (found,) = session.run(None, {"images": floats})
    logits = model.run(batch)
    np.testing.assert_array_equal(found.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(found, shifted / shifted.sum(1, keepdims=True), atol=1e-6)


def test_a_child_that_fails_gives_its_last_words(tmp_path):
    code = "import sys; print('{\"threads\": \"1\"}', flush=True); input(); sys.exit('out of luck')"
    with (
        Child([sys.executable, "-c", code], tmp_path / "log") as child,
        pytest.raises(UnavailableError, match="out of luck"),
    ):
        child.ask("warm", paths=[])
    with pytest.raises(UnavailableError, match="cannot be run"):
        Child([str(tmp_path / "absent")], tmp_path / "log")
    assert last_words("Traceback\nKeyError: 1\n\n") == "KeyError: 1"
    assert last_words("") == "it ended without a word"


def test_a_cold_start_that_fails_leaves_the_others():
    found = {"good": Samples(), "bad": Samples()}
    bad = [sys.executable, "-c", "raise ValueError('no')"]
    cold({"good": [sys.executable, "-c", ""], "bad": bad}, found, 2)
    assert found["bad"].failed == "failed: ValueError: no" and found["bad"].cold_ms == []
    assert len(found["good"].cold_ms) == len(found["good"].cold_kib) == 2


def test_unknown_names_are_refused():
    command = [sys.executable, FOLDER / "run.py", "--only", "bare,nobody"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and "nobody" in run.stderr
