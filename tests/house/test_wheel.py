"""The wheel in an environment of its own: contents, weight, and the commands without extras."""

from __future__ import annotations

import json
import subprocess

import pytest

from edge_fgr_bench.install import build_wheel, install_light, packages_of, weigh, wheel_names

FORBIDDEN = ("torch", "onnx", "cv2", "opencv", "scipy", "sklearn", "timm", "pandas", "matplotlib")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def light(wheel, tmp_path_factory):
    return install_light(wheel, tmp_path_factory.mktemp("light") / "venv")


def test_contents(wheel):
    names = wheel_names(wheel)
    tops = {name.split("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"edge_fgr", "edge_fgr_train", "edge_fgr_export", "edge_fgr_bench"}
    assert {f"edge_fgr/models/{name}.onnx" for name in ("flowers17", "grocery81")} <= set(names)
    assert "edge_fgr_train/recipes/grocery81.toml" in names
    assert "edge_fgr_train/recipes/grocery81.calibration.txt" in names
    assert "edge_fgr_train/templates/report.html" in names
    assert "edge_fgr_export/templates/verify.html" in names
    assert "edge_fgr_bench/templates/bench.html" in names
    assert "edge_fgr_export/templates/compared.css" in names
    assert "edge_fgr_train/templates/page.css" in names
    assert "edge_fgr_train/templates/words.html" in names
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert not [name for name in names if name.endswith((".jpg", ".safetensors", ".pyc"))]
    assert wheel.stat().st_size <= 9_000_000


def test_light_install(light):
    names = packages_of(light)
    for name in names:
        plain = name.lower().split("-")[0]
        assert plain not in FORBIDDEN, f"{name} is in the light install"
    assert weigh(light) <= 215_000_000


def run(light, *arguments):
    tool = light.parent / "edge-fgr"
    return subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_installed_command_classifies(light, photos):
    result = run(light, "classify", photos[0], "--format", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[0]["model"]["name"] == "grocery81"


def test_extras_that_are_not_installed_are_named(light, tmp_path):
    for command, extra in (("train", "train"), ("export", "export"), ("features", "train")):
        result = run(light, command, tmp_path, "-o", tmp_path / "out.npz")
        assert result.returncode == 69
        (line,) = result.stderr.splitlines()
        assert f"pip install 'edge-fgr[{extra}]'" in line
        assert not (tmp_path / "out.npz").exists()
