"""Devices by name: which provider of onnxruntime stands behind each, and what it is given.

Standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FOLDER", "PROVIDERS", "Provider", "remedy"]

FOLDER = "{folder}"
"""Stands in an option for the folder of what a provider compiled."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What stands behind a device's name.

    Attributes:
        names: what onnxruntime calls it; the first that is present is taken.
        package: what ``pip install`` wants, or None where no package brings it.
        options: given to it unless the user says otherwise.
        folders: options that name a folder for what it compiled, with other options they need.
        behind: providers that may run what it does not take, before the CPU does.
        threads: its option for threads inside one inference.
        whole: it must take the whole graph. OpenVINO falls back from its GPU and NPU to the
            CPU on its own account, and only this forbids it.
        library: its shared library, which may lack others.
    """

    names: tuple[str, ...]
    package: str | None
    options: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    behind: tuple[str, ...] = ()
    threads: str | None = None
    whole: bool = False
    library: str | None = None


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(("CPUExecutionProvider",), "onnxruntime"),
    "cuda": Provider(("CUDAExecutionProvider",), "onnxruntime-gpu", library="cuda"),
    "tensorrt": Provider(
        ("TensorrtExecutionProvider",),
        "onnxruntime-gpu",
        folders={
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": FOLDER,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": FOLDER,
        },
        behind=("CUDAExecutionProvider",),
        library="tensorrt",
    ),
    "openvino": Provider(
        ("OpenVINOExecutionProvider",),
        "onnxruntime-openvino",
        options={"device_type": "CPU"},
        folders={"cache_dir": FOLDER},
        threads="num_of_threads",
        whole=True,
        library="openvino",
    ),
    "coreml": Provider(
        ("CoreMLExecutionProvider",),
        "onnxruntime",
        options={"ModelFormat": "MLProgram"},
        folders={"ModelCacheDirectory": FOLDER},
    ),
    "directml": Provider(("DmlExecutionProvider",), "onnxruntime-directml"),
    "qnn": Provider(
        ("QNNExecutionProvider",),
        # From 2 on the package is a plugin, which has to be loaded in another way.
        "onnxruntime-qnn<2",
        options={"backend_path": "QnnHtp.dll" if sys.platform == "win32" else "libQnnHtp.so"},
        library="qnn",
    ),
    "rocm": Provider(
        ("ROCMExecutionProvider", "MIGraphXExecutionProvider"), "onnxruntime-rocm", library="rocm"
    ),
    "xnnpack": Provider(("XnnpackExecutionProvider",), None, threads="intra_op_num_threads"),
}
"""Devices by name. ``auto`` is none of them: it takes CUDA where that starts, else the CPU."""


def remedy(device: str) -> str:
    """Return what to do where a device is not in this onnxruntime."""
    row = PROVIDERS[device]
    if row.package is None:
        return "no package brings it: build onnxruntime with it, or choose --device cpu"
    if row.package == "onnxruntime":
        return "only its macOS package has it; choose --device cpu"
    quoted = f'"{row.package}"' if "<" in row.package else row.package
    return (
        f"pip uninstall onnxruntime && pip install {quoted}, or choose --device cpu "
        "(edge-fgr doctor shows what is installed)"
    )
