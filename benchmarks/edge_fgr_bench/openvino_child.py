"""Latencies of OpenVINO on request: the part of ``speed`` that runs in an environment of its own.

    PYTHON openvino_child.py PIXELS.npy MODEL.onnx [PIXELS.npy MODEL.onnx ...]

Reads lines ``MODEL COUNT`` (the first model is 0) and answers each with one line of JSON: COUNT
latencies in milliseconds. Its first line, before any question, is the version. One thread; floats
stay float32. Needs openvino and numpy, and nothing of edge-fgr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

__all__: list[str] = []


def _opened(model: str, pixels: str) -> Callable[[], object]:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
    }
    array = np.load(pixels)
    network = openvino.Core().read_model(model)
    network.reshape(array.shape)  # one image at a time, logits alone: its best case
    for result in network.get_results():
        if "logits" not in result.output(0).get_names():
            network.remove_result(result)
    request = openvino.compile_model(network, "CPU", options).create_infer_request()
    tensor = openvino.Tensor(array)
    return lambda: request.infer([tensor], share_inputs=True, share_outputs=True)


def main(arguments: Sequence[str]) -> None:
    """Answer questions until stdin ends."""
    try:
        import openvino
    except ModuleNotFoundError:
        sys.exit(f"{sys.executable}: no OpenVINO here; -m pip install openvino numpy")
    runs = [_opened(arguments[i + 1], arguments[i]) for i in range(0, len(arguments), 2)]
    print(json.dumps(openvino.__version__), flush=True)
    for line in sys.stdin:
        which, count = map(int, line.split())
        found = []
        for _ in range(count):
            start = perf_counter()
            runs[which]()
            found.append((perf_counter() - start) * 1e3)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
