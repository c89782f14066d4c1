"""Whether a processor suits a model's target: from what Linux and numpy say about it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_fgr import Classifier
from edge_fgr.cpu import has_vnni, model_name, suits
from edge_fgr.model import embedded
from edge_fgr_export.metadata import stamp

QEMU = Path(__file__).parents[2] / ".cache" / "isa" / "qemu" / "qemu-x86_64-static"


@pytest.fixture
def cpuinfo(tmp_path):
    """Write what Linux shows of a machine with two processors of these abilities."""

    def write(flags: str) -> Path:
        one = f"processor\t: 0\nmodel name\t: Some: CPU\nflags\t\t: fpu sse2 {flags}\nbugs\t\t:\n\n"
        path = tmp_path / "cpuinfo"
        path.write_text(one * 2)
        return path

    return write


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("avx2 avx_vnni", True),  # client processors without AVX-512
        ("avx2 avx512_vnni", True),
        ("avx2 fma", False),
        ("avx2 avx_vnni_int8", False),
    ],
)
def test_flags(flags, found, cpuinfo):
    path = cpuinfo(flags)
    assert has_vnni(path) is found
    reason = suits("x86-vnni", machine="x86_64", cpuinfo=path)
    assert (reason is None) is found
    assert found or "no VNNI" in reason
    assert suits("portable", machine="x86_64", cpuinfo=path) is None
    assert suits("fp32", machine="x86_64", cpuinfo=path) is None


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "armv7l", "ARM64"])
def test_arm(machine):
    assert "ARM" in suits("x86-vnni", machine=machine)
    assert suits("portable", machine=machine) is None


def test_the_name_of_the_processor(cpuinfo, tmp_path):
    assert model_name(cpuinfo("avx2")) == "Some: CPU"
    assert model_name(tmp_path / "absent")


def test_what_is_unknown_is_no_reason_to_warn(cpuinfo, tmp_path):
    assert suits("x86-vnni", machine="riscv64", cpuinfo=cpuinfo("avx2")) is None
    silent = tmp_path / "silent"
    silent.write_text("processor\t: 0\n")
    code = f"""
from pathlib import Path
from edge_fgr.cpu import has_vnni
for path in ({str(silent)!r}, "nowhere"):
    assert has_vnni(Path(path)) is None
"""
    if sys.platform != "darwin":
        subprocess.run([sys.executable, "-c", code], check=True)  # without numpy


def test_this_processor_is_judged_alike_by_both():
    from numpy._core._multiarray_umath import __cpu_features__

    if sys.platform == "linux" and __cpu_features__.get("AVX512VNNI"):
        assert has_vnni() is True


@pytest.mark.skipif(not QEMU.exists(), reason="make test-isa fetches the emulator")
def test_an_emulated_processor_is_not_taken_for_the_host():
    """Under qemu-user, Linux shows the host's abilities; numpy asks the emulated processor."""
    code = "import numpy; from edge_fgr.cpu import suits; print(suits('x86-vnni'))"
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the host has no AVX-512, by which the two could be told apart")
    run = subprocess.run(
        [QEMU, "-cpu", "Haswell", sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "no VNNI" in run.stdout


@pytest.fixture
def other_target(tmp_path):
    """The embedded model under the target of another."""
    import onnx

    model = onnx.load(embedded()["grocery81"])
    contract = replace(Classifier.load().contract, target="x86-vnni")
    path = tmp_path / "vnni.onnx"
    path.write_bytes(stamp(model, contract))
    return path


def test_classify_warns_in_one_line(cli, other_target, photos):
    result = cli("classify", photos[0], "-m", other_target)
    assert result.returncode == 0 and result.stdout
    lines = result.stderr.splitlines()
    if (reason := suits("x86-vnni")) is None:
        assert lines == []
    else:
        assert lines == [f"edge-fgr: warning: {reason}"]
    assert cli("classify", photos[0]).stderr == ""


def test_the_library_prints_nothing(other_target, photos, capfd):
    Classifier.load(other_target, device="cpu")(photos[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not QEMU.exists(), reason="make test-isa fetches the emulator")
def test_classify_warns_on_an_emulated_haswell(other_target, photos):
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the host has no AVX-512, by which the two could be told apart")
    command = [QEMU, "-cpu", "Haswell", sys.executable, "-m", "edge_fgr"]
    run = subprocess.run(
        [*command, "classify", photos[0], "-m", other_target],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    ours = [line for line in run.stderr.splitlines() if line.startswith("edge-fgr:")]
    assert len(ours) == 1 and "no VNNI" in ours[0] and run.stdout
