"""Opening a model: each thing that can be wrong has its own error."""

from __future__ import annotations

import os

import onnx
import onnxruntime
import pytest

from edge_fgr.contract import METADATA_KEY
from edge_fgr.errors import ContractError, DeviceError, InputMissingError, ModelError, UsageError
from edge_fgr.model import embedded, open_model

DEFAULT = embedded()["grocery81"]


def changed(tmp_path, **changes):
    model = onnx.load(DEFAULT)
    (entry,) = (prop for prop in model.metadata_props if prop.key == METADATA_KEY)
    for key, value in changes.items():
        if key == "contract":
            entry.value = value
        elif key == "drop":
            del model.metadata_props[:]
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    return path


def test_model_without_contract(tmp_path):
    with pytest.raises(ContractError, match="make one with edge-fgr export"):
        open_model(changed(tmp_path, drop=True))


def test_model_with_a_wrong_contract(tmp_path):
    path = changed(tmp_path, contract='{"schema": 1}')
    with pytest.raises(ContractError, match=r"changed\.onnx: .*missing key"):
        open_model(path)


def test_labels_must_fit_the_logits(tmp_path):
    text = open_model(device="cpu").contract.to_json()
    fewer = text.replace(
        '["Vegetables","Zucchini"]', '["Vegetables","Zucchini"],["One","Too-many"]'
    )
    with pytest.raises(ContractError, match="82 labels do not fit"):
        open_model(changed(tmp_path, contract=fewer))


def test_geometry_must_fit_the_input(tmp_path):
    contract = open_model(device="cpu").contract
    size = contract.geometry.size
    text = contract.to_json().replace(f'"size":{size}', f'"size":{size - 8}')
    with pytest.raises(ContractError, match="input"):
        open_model(changed(tmp_path, contract=text))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a" + bytes(100)])
def test_files_that_are_no_model(tmp_path, content):
    path = tmp_path / "wrong.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"wrong\.onnx"):
        open_model(path)


def test_truncated_model(tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(DEFAULT.read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"half\.onnx"):
        open_model(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(InputMissingError, match="grocery81"):
        open_model("no-such-model")
    with pytest.raises(ModelError, match="folder"):
        open_model(tmp_path)


def test_devices_are_strict():
    with pytest.raises(UsageError, match="tpu"):
        open_model(device="tpu")
    with pytest.raises(UsageError):
        open_model(threads=0)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DeviceError, match="onnxruntime-gpu"):
            open_model(device="cuda")
        assert open_model(device="auto").device == "cpu"


def test_telemetry_is_off_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_model(device="cpu")
    assert os.listdir(tmp_path) == []
