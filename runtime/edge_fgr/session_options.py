"""What every session of onnxruntime is opened with, and our error for a file that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_fgr.errors import ModelError

__all__ = ["options_of", "unusable"]


def options_of(threads: int) -> Any:
    """Return onnxruntime's options for a session with ``threads`` threads inside one inference."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # our own errors say what is wrong
    return options


def unusable(path: Path, error: Exception) -> ModelError:
    """Return our error for a file that onnxruntime does not take."""
    cause = " ".join(str(error).split())[:200]
    return ModelError(
        f"{path}: not a model that can be run here ({cause}); export it again, or copy it again"
    )
