"""The doctor finds what is wrong from real files: control groups, packages, a cache."""

from __future__ import annotations

import json
import os
import sys

import onnxruntime
import pytest

from edge_fgr import cpu, trial
from edge_fgr.devices import PROVIDERS
from edge_fgr.doctor import cache_state, diagnose, wheel_findings
from edge_fgr.doctor_command import report_json, report_lines
from edge_fgr.limits import Limits, limits, quota
from edge_fgr.wheels import Wheel, wheels


@pytest.fixture(scope="module")
def report():
    return diagnose()


def test_this_environment(cli, report):
    result = cli("doctor", "--format", "json")
    facts = json.loads(result.stdout)
    assert facts["schema_version"] == 1
    assert (facts["status"], result.returncode) in (("ok", 0), ("care", 1))
    assert facts["versions"]["onnxruntime"] == onnxruntime.__version__
    (own,) = (device for device in facts["devices"] if device["device"] == "cpu")
    assert own["share"] == 1.0 and own["difference"] == 0.0 and own["error"] is None
    assert {d["device"] for d in facts["devices"]} | set(facts["absent"]) == set(PROVIDERS)
    assert {finding["topic"] for finding in facts["findings"]} >= {
        "wheels", "device", "cpu", "threads", "cache",
    }  # fmt: skip
    assert facts.keys() == json.loads(report_json(report)).keys()


def test_text(cli, report):
    result = cli("doctor")
    assert result.returncode == (0 if report.well else 1)
    assert "cpu: runs 100% of the layers" in result.stdout and result.stderr == ""
    assert report_lines(report).splitlines()[0] == result.stdout.splitlines()[0]
    assert cli("doctor", "--format", "yaml").returncode == 2


def test_a_model_that_is_none(cli, tmp_path):
    (tmp_path / "none.onnx").write_text("none")
    result = cli("doctor", "-m", tmp_path / "none.onnx")
    assert result.returncode == 1
    assert "care  model" in result.stdout and "none.onnx" in result.stdout


def test_a_cache_that_cannot_be_written_needs_care(cli, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "file"))
    result = cli("doctor")
    assert result.returncode == 1 and "care  cache" in result.stdout
    assert "EDGE_FGR_CACHE" in result.stdout


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "cache"))
    diagnose()
    assert not (tmp_path / "cache").exists()


def test_cache_state(tmp_path):
    state = cache_state(tmp_path / "none" / "yet")
    assert not state["exists"] and state["writable"] and state["bytes"] == 0
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "a.graph").write_bytes(b"12345")
    (tmp_path / "engines" / "openvino-a").mkdir(parents=True)
    state = cache_state(tmp_path)
    assert (state["graphs"], state["engines"], state["bytes"]) == (1, 1, 5)


def process(folder, groups, mounts):
    """Write what proc says about a process, and return its folder."""
    folder.mkdir()
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts)
    return folder


def test_quota_of_version_2(tmp_path):
    root = tmp_path / "sys fs"
    inner = root / "work" / "job"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    mount = f"35 24 0:30 / {str(root).replace(' ', chr(92) + '040')} rw - cgroup2 cgroup2 rw\n"
    other = "22 1 0:5 / /proc rw - proc proc rw\nhalf a line\n"
    inside = process(tmp_path / "a", "0::/work/job\n", other + mount)
    assert quota(inside) == 1.5  # of the group above
    (inner / "cpu.max").write_text("50000 100000\n")
    assert quota(inside) == 0.5
    assert quota(process(tmp_path / "b", "0::/\n", mount)) is None
    # A container without a namespace of its own: proc names a group that is not mounted there.
    (root / "cpu.max").write_text("200000 100000\n")
    assert quota(process(tmp_path / "c", "0::/host/slice\n", mount)) == 2.0
    bound = mount.replace(" 0:30 / ", " 0:30 /host ")
    assert quota(process(tmp_path / "d", "0::/host/work/job\n", bound)) == 0.5


@pytest.mark.parametrize(("limit", "wanted"), [("-1", None), ("250000", 2.5), ("x", None)])
def test_quota_of_version_1(limit, wanted, tmp_path):
    group = tmp_path / "cpu" / "docker" / "1"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(limit + "\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    mounts = (
        f"32 31 0:29 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"33 31 0:30 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
    )
    groups = "4:memory:/elsewhere\n1:cpu,cpuacct:/docker/1\n0::/\n"
    assert quota(process(tmp_path / "p", groups, mounts)) == wanted


def test_no_proc_is_no_quota(tmp_path):
    assert quota(tmp_path / "nowhere") is None
    assert limits(tmp_path).quota is None
    assert limits().usable >= 1


def test_usable_threads():
    assert Limits(8, 4, None).usable == 4
    assert Limits(8, None, 2.5).usable == 3
    assert Limits(8, 8, 0.3).usable == 1
    assert Limits(None, None, None).usable == 1


@pytest.fixture
def site(tmp_path):
    """Make a folder of packages that pip could have installed."""

    def install(name: str, version: str, *files: str) -> list[str]:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if files:
            (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        return [str(tmp_path)]

    return install


def test_colliding_packages(site, monkeypatch):
    site("onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    site("onnxruntime-openvino", "1.24.1", "onnxruntime/__init__.py")
    site("onnxruntime-qnn", "2.7.0", "onnxruntime_qnn/__init__.py")
    site("onnxruntime-extensions", "0.15.2")
    path = site("onnx", "1.19.0", "onnx/__init__.py")
    found = wheels(path)
    assert [(wheel.name, wheel.brings) for wheel in found] == [
        ("onnxruntime", True),
        ("onnxruntime-extensions", False),
        ("onnxruntime-openvino", True),
        ("onnxruntime-qnn", False),
    ]
    clash, plugin = wheel_findings(found, "1.32.0")
    assert clash.level == "care" and "1.24.1 are installed at once" in clash.text
    assert "pip uninstall -y onnxruntime onnxruntime-openvino" in clash.todo
    assert plugin.level == "note" and "plugin" in plugin.text
    monkeypatch.setattr(sys, "path", [*path, *sys.path])
    assert not diagnose().well


def test_other_states_of_packages():
    one = [Wheel("onnxruntime-gpu", "1.31.1", True)]
    (fine,) = wheel_findings(one, "1.31.1")
    assert fine.level == "ok"
    (other,) = wheel_findings(one, "1.20.0")
    assert other.level == "care" and "--force-reinstall onnxruntime-gpu" in other.todo
    (broken,) = wheel_findings(one, None, "libcudart.so: cannot open shared object file")
    assert broken.level == "care" and "libcudart.so" in broken.text
    (unknown,) = wheel_findings([], "1.32.0")
    assert unknown.level == "note"


@pytest.mark.parametrize("device", [d for d in PROVIDERS if d not in ("cpu", "cuda", "openvino")])
def test_a_device_that_is_not_there(device):
    if PROVIDERS[device].names[0] in onnxruntime.get_available_providers():
        pytest.skip(f"{device} is there")
    done = trial.run(device)
    assert done.device == device and done.run_ms is None and "this onnxruntime has no" in done.error


def test_a_process_that_ends_is_told(tmp_path, monkeypatch):
    """A native library may end the process; here the interpreter does, for want of a module."""
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    done = trial.run("cpu")
    assert "ended the process" in done.error


def test_abilities(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n")
    assert cpu.abilities(path, machine="x86_64")["avx2"] is True
    assert cpu.abilities(path, machine="x86_64")["avx512"] is False
    path.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert cpu.abilities(path, machine="aarch64") == {"neon": True, "dotprod": True, "i8mm": False}
    assert cpu.abilities(path, machine="riscv64") == {}
    if sys.platform != "darwin":
        gone = cpu.abilities(tmp_path / "gone", machine="aarch64")
        assert set(gone.values()) == {None}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert limits().affinity == 1
    finally:
        os.sched_setaffinity(0, before)
