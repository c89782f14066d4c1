"""What export does not take: one line, the documented code, and the earlier model as it was."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file, save_file

from edge_fgr.errors import EdgeFgrError
from edge_fgr_export.command import Options, run

EARLIER = b"an earlier model"


@pytest.fixture
def case(tiny, tmp_path):
    """A run of its own with its images, and an earlier model in its place."""
    shutil.copytree(tiny / "run", tmp_path / "run")
    shutil.copytree(tiny / "data", tmp_path / "data")
    (tmp_path / "model.onnx").write_bytes(EARLIER)
    return tmp_path


def export(case, **options):
    """Return exit code and message of an export that fails; nothing must be left of it."""
    with pytest.raises(EdgeFgrError) as raised:
        run(case / "run", case / "model.onnx", str(case / "data"), Options(**options))
    check_nothing_is_left(case)
    return raised.value.exit_code, str(raised.value)


def check_nothing_is_left(case):
    left = sorted(p.name for p in case.iterdir() if p.name not in ("run", "data"))
    assert left in (["model.onnx"], ["model.fp32.onnx", "model.onnx"])
    assert (case / "model.onnx").read_bytes() == EARLIER


def images(case):
    return sorted((case / "data").rglob("*.jpg"))


def change_run(case, change):
    path = case / "run" / "run.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_no_images(case):
    for path in images(case):
        path.unlink()
    code, line = export(case)
    assert code == 2 and "empty class" in line
    shutil.rmtree(case / "data")
    code, line = export(case)
    assert code == 66 and "data" in line


def test_too_few_images(case):
    change_run(case, lambda facts: facts.update(fit=facts["fit"][:1]))
    code, line = export(case)
    assert code == 66 and "fewer than two images" in line


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0 half a picture"])
def test_images_of_the_wrong_kind(case, content):
    name = next(iter(json.loads((case / "run" / "run.json").read_text())["fit"]))
    path = next(p for p in images(case) if str(p).endswith(name))
    path.write_bytes(content)
    code, line = export(case)
    assert code == 65 and path.name in line


@pytest.mark.parametrize("file", ["contract.json", "model.safetensors", "run.json"])
def test_a_run_that_lacks_a_part(case, file):
    (case / "run" / file).unlink()
    code, line = export(case)
    assert code in (66, 78) and ("run" in line or file in line)


@pytest.mark.parametrize("file", ["contract.json", "model.safetensors", "run.json"])
def test_a_run_with_a_damaged_part(case, file):
    (case / "run" / file).write_bytes(b"{}")
    code, line = export(case)
    assert code == 78 and "run" in line


def test_an_operator_without_integer_form(case):
    """A run of another backbone: its weights do not even have to be trained."""
    from edge_fgr_train.checkpoint import Run
    from edge_fgr_train.network import build_network

    name = "mobilenetv3_small_050"
    change_run(case, lambda facts: facts["recipe"]["model"].update(backbone=name))
    recipe = Run.read(case / "run").recipe
    network = build_network(recipe.model, 3, pretrained=False, size=64)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    save_file(state, case / "run" / "model.safetensors")
    code, line = export(case)
    assert code == 78
    assert "HardSwish" in line and "--target fp16 or fp32" in line


def test_a_head_that_does_not_fit(case):
    path = case / "run" / "model.safetensors"
    state = load_file(path)
    state["head.weight"] = state["head.weight"][:, :100].copy()
    save_file(state, path)
    code, line = export(case)
    assert code == 78 and "head" in line


@pytest.mark.parametrize("options", [("--target", "gpu"), ("--target", "litert")])
def test_one_line_for_people(cli, case, options):
    done = cli("export", case / "run", "-o", case / "model.onnx", *options)
    check_nothing_is_left(case)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def start(case, **options):
    command = [sys.executable, "-m", "edge_fgr", "export", case / "run"]
    command += ["-o", case / "model.onnx", "--data", case / "data"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_disk_without_room(case):
    """The fp32 file would be 14 MB."""

    def little():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = start(case, preexec_fn=little)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 74 and "model.fp32.onnx" in words.splitlines()[-1]
    assert (case / "model.onnx").read_bytes() == EARLIER
    assert not [p for p in case.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_in_the_middle(case, way):
    process = start(case)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("int8 for"):
            break
    time.sleep(0.3)
    os.kill(process.pid, way)
    process.communicate(timeout=60)
    assert process.returncode == (143 if way == signal.SIGTERM else -9)
    assert (case / "model.onnx").read_bytes() == EARLIER
    if way == signal.SIGTERM:
        assert not [p for p in case.iterdir() if p.name.startswith(".")]
