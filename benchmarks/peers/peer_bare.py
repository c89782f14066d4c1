"""onnxruntime by hand: open, resize, run, argmax; a folder by a pool of threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import onnxruntime
from by_hand import pixels
from harness import Spec, run

__all__: list[str] = []


class _Bare:
    threads = "1"

    def __init__(self, spec: Spec) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(spec.model, options, providers=providers)
        self._spec = spec
        self._pool = ThreadPoolExecutor(spec.cores)

    def classify(self, path: str) -> int | None:
        batch = pixels(path, self._spec)[None]
        (logits,) = self._session.run(["logits"], {"pixels": batch})
        return int(logits[0].argmax())

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        return list(self._pool.map(self.classify, paths))


if __name__ == "__main__":
    run(_Bare)
