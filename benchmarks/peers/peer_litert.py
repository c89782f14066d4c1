"""LiteRT on the ``.tflite`` of the same INT8 graph: one thread an image, a pool for a folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ai_edge_litert.interpreter import Interpreter
from by_hand import pixels
from harness import Spec, run

__all__: list[str] = []


class _LiteRt:
    threads = "1"

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(spec.cores)
        self._interpreter()

    def classify(self, path: str) -> int | None:
        interpreter = self._interpreter()
        batch = pixels(path, self._spec)[None]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
        interpreter.invoke()
        return int(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].argmax())

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        return list(self._pool.map(self.classify, paths))

    def _interpreter(self) -> Any:
        """Return the interpreter of this thread: two threads may not share one."""
        if not hasattr(self._own, "interpreter"):
            self._own.interpreter = Interpreter(self._spec.tflite, num_threads=1)
            self._own.interpreter.allocate_tensors()
        return self._own.interpreter


if __name__ == "__main__":
    run(_LiteRt)
