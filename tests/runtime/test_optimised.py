"""A second start opens the graph that the first one optimised: the same bits, never an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edge_fgr import Classifier, optimised
from edge_fgr.cpu import signature
from edge_fgr.image import load
from edge_fgr.model import embedded, open_model

MODEL = embedded()["grocery81"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


def logits(photos, **options):
    model = open_model(MODEL, device="cpu", **options)
    return np.concatenate([model.run(load(p, model.contract.geometry)[None]) for p in photos[:6]])


def test_the_second_start_says_the_same_to_the_bit(folder, photos):
    plain = logits(photos)
    assert not folder.exists()
    first = logits(photos, cache=True)
    (kept,) = folder.iterdir()
    written = kept.stat().st_mtime_ns
    second = logits(photos, cache=True)
    threads = logits(photos, cache=True, threads=2)
    assert plain.tobytes() == first.tobytes() == second.tobytes() == threads.tobytes()
    assert kept.stat().st_mtime_ns == written
    assert open_model(MODEL, cache=True).contract == open_model(MODEL).contract


@pytest.mark.parametrize("damage", ["empty", "flipped", "cut", "other", "folder"])
def test_what_cannot_be_read_is_made_anew(folder, photos, damage):
    wanted = logits(photos, cache=True)
    (kept,) = folder.iterdir()
    key, content = kept.name.partition("-")[0], bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.unlink()
    if damage == "folder":
        kept.mkdir()
    elif damage == "other":  # whole, and nothing that onnxruntime takes
        optimised.write(key, b"not a graph")
    else:
        kept.write_bytes({"empty": b"", "flipped": content, "cut": content[:1000]}[damage])
    if damage != "other":
        assert optimised.read(key) is None
    assert logits(photos, cache=True).tobytes() == wanted.tobytes()
    again = optimised.read(key)
    assert damage == "folder" or (again is not None and again.stat().st_size > 3_000_000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_no_error(folder, photos):
    folder.parent.mkdir(mode=0o500)
    assert logits(photos, cache=True).tobytes() == logits(photos).tobytes()


def test_a_cache_that_is_a_file_is_no_error(folder, photos):
    folder.parent.write_text("in the way")
    assert logits(photos, cache=True).tobytes() == logits(photos).tobytes()


def test_no_place_for_temporary_files_is_no_error(folder, photos, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert logits(photos, cache=True).tobytes() == logits(photos).tobytes()
    assert not folder.exists()


def test_two_processes_at_once(folder, photos):
    command = [sys.executable, "-m", "edge_fgr", "classify", str(photos[0]), "--format", "json"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert len({text.split('"ms"')[0] for text in said}) == 1
    (kept,) = folder.iterdir()
    assert optimised.read(kept.name.partition("-")[0]) is not None


def test_off_with_one_flag(folder, photos, cli):
    assert cli("classify", photos[0], "--no-cache").returncode == 0
    Classifier.load(cache=False)
    assert not folder.exists()
    assert cli("classify", photos[0]).returncode == 0
    assert len(list(folder.iterdir())) == 1


def test_files_are_bound_and_few(folder):
    facts = ("a", "1.32.0", "CPUExecutionProvider")
    one = optimised.key_of(*facts)
    assert one == optimised.key_of(*facts)
    others = {
        optimised.key_of("b", *facts[1:]),
        optimised.key_of("a", "1.33.0", facts[2]),
        optimised.key_of("a", "1.32.0", "CUDAExecutionProvider"),
    }
    assert len(others | {one}) == 4
    for i in range(20):
        optimised.write(f"{i:02}", b"x")
        (written,) = folder.glob(f"{i:02}-*")
        os.utime(written, (i, i))
    optimised.write("last", b"x")
    left = {path.name.partition("-")[0] for path in folder.iterdir()}
    assert len(left) == 16 and "last" in left and "00" not in left


def test_a_processor_is_told_from_another(tmp_path):
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text(
        "processor\t: 0\nflags\t: sse avx2\ncpu MHz\t: 1\n\nprocessor\t: 1\nflags\t: x\n"
    )
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd08\n")
    assert signature(x86) == signature(x86) != signature(arm)
    shutil.copy(x86, tmp_path / "busy")
    (tmp_path / "busy").write_text(x86.read_text().replace("MHz\t: 1", "MHz\t: 3000"))
    assert signature(tmp_path / "busy") == signature(x86)
    assert signature(tmp_path / "missing")
