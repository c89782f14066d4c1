"""OpenVINO on the same file: its hints for latency and throughput, its cache of compiled models.

One image has one thread; a folder has a stream and a thread per core. Floats stay float32, as in
``edge_fgr_bench.openvino_child``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openvino
from by_hand import pixels
from harness import Spec, run

__all__: list[str] = []

_ONE = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}


class _OpenVino:
    threads = "1"

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._core = openvino.Core()
        self._core.set_property({"CACHE_DIR": f"{spec.scratch}/openvino"})
        self._network = self._core.read_model(spec.model)
        self._network.reshape([1, spec.size, spec.size, 3])
        for result in self._network.get_results():
            if "logits" not in result.output(0).get_names():
                self._network.remove_result(result)
        self._one = self._compiled(_ONE).create_infer_request()
        self._many: Any = None
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(spec.cores)

    def classify(self, path: str) -> int | None:
        return self._label(self._one, path)

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        cores = self._spec.cores
        if self._many is None:
            streams = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
            self._many = self._compiled({"PERFORMANCE_HINT": "THROUGHPUT", **streams})
        return list(self._pool.map(self._of_thread, paths))

    def _of_thread(self, path: str) -> int:
        if not hasattr(self._own, "request"):
            self._own.request = self._many.create_infer_request()
        return self._label(self._own.request, path)

    def _label(self, request: Any, path: str) -> int:
        tensor = openvino.Tensor(pixels(path, self._spec)[None])
        (logits,) = request.infer([tensor], share_inputs=True, share_outputs=True).values()
        return int(logits[0].argmax())

    def _compiled(self, options: dict[str, Any]) -> Any:
        options = {"INFERENCE_PRECISION_HINT": "f32", **options}
        return self._core.compile_model(self._network, "CPU", options)


if __name__ == "__main__":
    run(_OpenVino)
