"""Files to records: order, errors in their place, evidence, an early end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edge_fgr import Classifier, image
from edge_fgr.contract import Geometry
from edge_fgr.errors import ContractError, InputMissingError, OutputError
from edge_fgr.head import HEAD_KEY
from edge_fgr.pipeline import classify_files


def paths(photos, count):
    return [str(photo) for photo in photos[:count]]


@pytest.mark.parametrize("workers", [1, 2])
def test_records_come_in_order_with_errors_in_their_place(clf, photos, tmp_path, workers):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    early = InputMissingError("gone: no such file; check the path")
    files = [*paths(photos, 3), str(empty), early, *paths(photos, 5)]
    found = list(classify_files(clf, files, top_k=2, workers=workers))
    assert [record["file"] for record, _ in found] == [*files[:4], "gone", *files[5:]]
    assert [record["status"] for record, _ in found] == ["ok"] * 3 + ["error"] * 2 + ["ok"] * 5
    assert [error is not None for _, error in found] == [False] * 3 + [True] * 2 + [False] * 5
    assert found[4][1] is early
    one = [tuple(record["label"]) for record, error in found if error is None]
    assert one == [clf(file).label for file in [*paths(photos, 3), *paths(photos, 5)]]


def test_evidence_of_files_and_of_standard_input(clf, photos, tmp_path, monkeypatch):
    given = io.BytesIO(photos[0].read_bytes())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=given))
    files = ["-", str(photos[1]), str(tmp_path / "missing.jpg")]
    found = classify_files(clf, files, top_k=1, workers=2, explain=tmp_path / "why")
    first, second, failed = (record for record, _ in found)
    assert first["file"] == "-" and first["label"] == list(clf(photos[0]).label)
    for record in (first, second):
        with open(record["evidence"], "rb") as file:
            assert file.read(3) == b"\xff\xd8\xff"
    assert os.path.basename(first["evidence"]).startswith("standard_input-")
    assert os.path.basename(second["evidence"]).startswith(photos[1].stem)
    assert failed["status"] == "error" and failed["evidence"] is None
    assert len(list((tmp_path / "why").iterdir())) == 2


def test_a_folder_for_evidence_that_cannot_be_written(clf, photos, tmp_path):
    (tmp_path / "file").touch()
    answers = classify_files(clf, paths(photos, 1), top_k=1, explain=tmp_path / "file" / "why")
    [(record, error)] = answers
    assert record["status"] == "error" and isinstance(error, OutputError)


def test_a_model_without_its_head_is_refused_before_the_run(clf, photos, tmp_path):
    graph = onnx.load(clf._model.path)
    kept = [entry for entry in graph.metadata_props if entry.key != HEAD_KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    onnx.save(graph, tmp_path / "older.onnx")
    older = Classifier.load(tmp_path / "older.onnx", device="cpu")
    with pytest.raises(ContractError, match="head"):
        next(classify_files(older, paths(photos, 2), top_k=1, explain=tmp_path / "why"))
    assert not (tmp_path / "why").exists()
    assert next(classify_files(older, paths(photos, 2), top_k=1))[0]["status"] == "ok"


def test_an_interrupt_loses_nothing_that_was_given(clf, photos):
    threads, interval = threading.active_count(), sys.getswitchinterval()
    files = paths(photos, 32) * 10
    answers = classify_files(clf, files, top_k=1, workers=2)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for record, _ in answers:
            seen.append(record["file"])
            if len(seen) == 9:
                raise KeyboardInterrupt
    answers.close()
    assert seen == files[:9]
    assert threading.active_count() == threads and sys.getswitchinterval() == interval


def test_runs_that_overlap_give_the_switch_interval_back(clf, photos):
    before = sys.getswitchinterval()
    one, two = (classify_files(clf, paths(photos, 6), top_k=1, workers=2) for _ in range(2))
    next(one), next(two)
    assert sys.getswitchinterval() < before
    one.close()
    assert sys.getswitchinterval() < before
    two.close()
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize(
    "geometry", [Geometry(size=64), Geometry(size=64, resize="stretch", short_side=80)]
)
def test_an_array_that_fits_goes_in_as_it_is(photos, geometry):
    pixels = image.load(photos[0], geometry)
    given = image.load(pixels, geometry, channels="rgb")
    assert given is pixels
    picture = image.read(pixels, geometry, channels="rgb")  # the way of all others
    assert np.array_equal(image.fit(picture, geometry), pixels)


def test_an_array_that_does_not_fit_is_resampled(photos):
    geometry = Geometry(size=64)
    pixels = image.load(photos[0], geometry)
    assert image.load(pixels, geometry, channels="bgr") is not pixels
    assert image.load(pixels, geometry, channels="rgb", roi=(0, 0, 0.5, 0.5)) is not pixels
    assert image.load(pixels, Geometry(size=64, short_side=72), channels="rgb") is not pixels
    turned = pixels.transpose(1, 0, 2)
    assert image.load(turned, geometry, channels="rgb").flags.c_contiguous


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads its own size in /proc")
def test_a_small_file_takes_little_address_space(photos):
    """Reading asks for the room that the file needs, not for that of the largest one allowed."""
    code = (
        "import resource, sys\n"
        "from edge_fgr.decode import MAX_BYTES, read_bytes\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + MAX_BYTES // 2,) * 2)\n"
        "print(len(read_bytes(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", code, str(photos[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == photos[0].stat().st_size
