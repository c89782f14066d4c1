"""What was asked for runs, or the command ends with 69: no fallback, silent or not.

Plain onnxruntime has one provider that starts and then takes none of the graph: Azure's, which is
first in ``get_providers()`` all the same. That is what a silent fallback looks like.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest

from edge_fgr import devices, engines, providers
from edge_fgr.devices import PROVIDERS, Provider
from edge_fgr.errors import DeviceError, ModelError, UsageError
from edge_fgr.model import Device, embedded, open_model

MODEL = embedded()["grocery81"]
AVAILABLE = onnxruntime.get_available_providers()
ABSENT = [d for d, row in PROVIDERS.items() if not set(row.names) & set(AVAILABLE)]
OPENVINO = Path(os.environ.get("EDGE_FGR_OPENVINO", "/opt/venv-ovort")) / "bin" / "python"
RUNTIME = Path(providers.__file__).parents[1]


def test_names_are_those_of_the_option():
    assert get_args(Device) == ("auto", *PROVIDERS)
    assert providers.present()[0] == "cpu"


@pytest.mark.parametrize("device", ABSENT)
def test_absent_is_an_error_that_says_what_helps(device):
    with pytest.raises(DeviceError, match=PROVIDERS[device].names[0]) as caught:
        open_model(device=device)
    message = str(caught.value)
    assert "\n" not in message and "--device cpu" in message
    package = PROVIDERS[device].package
    if package not in (None, "onnxruntime"):
        assert f"pip install {package}" in message or f'pip install "{package}"' in message


@pytest.mark.skipif("openvino" not in ABSENT, reason="this onnxruntime has OpenVINO")
def test_command_ends_with_69(cli, photos):
    result = cli("classify", photos[0], "--device", "openvino", "--format", "json")
    assert (result.returncode, result.stdout) == (69, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("edge-fgr: openvino: ") and "pip install onnxruntime-openvino" in line


def test_what_runs_is_in_the_result(cli, photos):
    result = cli("classify", photos[0], "--device", "cpu", "--format", "json")
    assert json.loads(result.stdout)[0]["device"] == "cpu"
    model = open_model(device="cpu")
    assert (model.device, model.share) == ("cpu", 1.0)


@pytest.fixture
def azure(monkeypatch):
    """A device that starts and runs nothing."""
    if "AzureExecutionProvider" not in AVAILABLE:
        pytest.skip("this onnxruntime has no Azure provider")
    row = Provider(("AzureExecutionProvider",), None, folders={"cache": devices.FOLDER})
    monkeypatch.setitem(PROVIDERS, "azure", row)
    return "azure"


def test_a_provider_that_takes_nothing_is_not_active(azure):
    session = onnxruntime.InferenceSession(str(MODEL), providers=PROVIDERS[azure].names)
    assert session.get_providers()[0] == "AzureExecutionProvider"  # the trap
    with pytest.raises(DeviceError, match=r"azure: .*(0% of the layers|does not take)"):
        providers.open_session(MODEL, azure)


def test_a_provider_that_must_take_all_is_not_active(azure, monkeypatch):
    monkeypatch.setitem(PROVIDERS, azure, Provider(PROVIDERS[azure].names, None, whole=True))
    with pytest.raises(DeviceError, match="could not start"):
        providers.open_session(MODEL, azure)


def test_a_bad_file_is_the_files_fault(azure, tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(MODEL.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"half\.onnx"):
        providers.open_session(path, azure)


def test_all_of_the_cpu_counts_as_all():
    """The share is read from the session itself, here from one that only the CPU runs."""
    session, share = providers.open_session(MODEL, "cpu")
    assert share == 1.0 and session.get_providers() == ["CPUExecutionProvider"]


def test_options_are_read_strictly():
    assert providers.parse_options(["device_id=0", "a = b=c"]) == {"device_id": "0", "a": "b=c"}
    assert providers.parse_options(["empty="]) == {"empty": ""}
    for wrong in (["device_id"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--device-option"):
            providers.parse_options(wrong)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_options_need_a_device(device, cli, photos):
    with pytest.raises(UsageError, match="takes none"):
        open_model(device=device, device_options={"a": "b"})
    result = cli("classify", photos[0], "--device", device, "--device-option", "a=b")
    assert result.returncode == 2


def test_engines_are_bound_and_few(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "cache"))
    facts = [("openvino", "a", "1"), ("tensorrt", "a", "1"), ("openvino", "b", "1")]
    made = {engines.folder(*each) for each in (*facts, ("openvino", "a", "2"))}
    assert len(made) == 4 and all(place.is_dir() for place in made)
    assert engines.folder(*facts[0]) in made
    for i in range(20):
        os.utime(engines.folder("openvino", f"{i}", "1"), (i, i))
    engines.tidy()
    left = set((tmp_path / "cache" / "engines").iterdir())
    assert len(left) == 8 and made < left
    engines.forget(next(iter(made)))
    assert len(list((tmp_path / "cache" / "engines").iterdir())) == 7


def test_no_place_for_engines_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGE_FGR_CACHE", str(tmp_path / "file"))
    assert engines.folder("openvino", "a", "1") is None
    engines.tidy()


def in_openvino(code: str, cache: Path) -> str:
    """Run a line of Python where onnxruntime-openvino is installed."""
    if not OPENVINO.exists():
        pytest.skip("no environment with onnxruntime-openvino; EDGE_FGR_OPENVINO may name one")
    begin = "from edge_fgr.errors import EdgeFgrError\nfrom edge_fgr.model import open_model\n"
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), "EDGE_FGR_CACHE": str(cache)}
    done = subprocess.run(
        [OPENVINO, "-c", begin + code],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openvino_answers_as_the_cpu_does(photos, tmp_path):
    names = [str(photo) for photo in photos]
    code = f"""
import json
from edge_fgr.image import load
model = open_model(device="openvino", cache=True)
answers = [model.run(load(p, model.contract.geometry)[None])[0].tolist() for p in {names!r}]
print(json.dumps([model.device, model.share, answers]))
"""
    device, share, answers = json.loads(in_openvino(code, tmp_path))
    assert (device, share) == ("openvino", 1.0)
    from edge_fgr.image import load

    model = open_model(device="cpu")
    right = np.concatenate([model.run(load(p, model.contract.geometry)[None]) for p in photos])
    assert (np.argmax(answers, 1) == right.argmax(1)).all()
    assert np.abs(answers - right).max() < 0.05 * np.ptp(right)
    (kept,) = (tmp_path / "engines").glob("openvino-*/*")
    kept.write_bytes(kept.read_bytes()[:5000])
    assert json.loads(in_openvino(code, tmp_path))[2] == answers


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ("no_such_option=1", "UsageError", "refuses no_such_option=1"),
        ("device_type=NO_SUCH", "", "device_type=NO_SUCH"),
    ],
)
def test_openvino_with_a_wrong_option(option, error, words, tmp_path):
    code = f"""
key, value = {option!r}.split("=")
try:
    open_model(device="openvino", device_options={{key: value}})
except EdgeFgrError as error:
    print(type(error).__name__, error)
"""
    said = in_openvino(code, tmp_path)
    assert error in said and words in said and len(said.splitlines()) == 1
