"""Ultralytics on the same graph, behind the float input that it can feed; offline, nothing sent.

``YOLO(model, task="classify")`` takes a path. It gives onnxruntime all threads and cannot be told
otherwise. A folder is a list in a text file, in batches of 32.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Spec, run

__all__: list[str] = []

_BATCH = 32


class _Ultralytics:
    threads = "all"

    def __init__(self, spec: Spec) -> None:
        own = Path(spec.scratch) / "ultralytics"
        own.mkdir(exist_ok=True)
        os.environ |= {
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_VERBOSE": "false",
            "YOLO_CONFIG_DIR": str(own),
        }
        from ultralytics import YOLO, settings

        if settings["sync"]:
            settings.update({"sync": False})
        if spec.feedable is None:
            sys.exit("no graph with a float input was made")
        self._model = YOLO(spec.feedable, task="classify", verbose=False)
        self._options = {"imgsz": spec.size, "device": "cpu", "verbose": False}
        self._list = own / f"{os.getpid()}.txt"

    def classify(self, path: str) -> int | None:
        (result,) = self._model.predict(path, **self._options)
        return int(result.probs.top1)

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        self._list.write_text("\n".join(paths))
        results = self._model.predict(self._list, batch=_BATCH, stream=True, **self._options)
        found = {result.path: int(result.probs.top1) for result in results}
        return [found[path] for path in paths]


if __name__ == "__main__":
    run(_Ultralytics)
