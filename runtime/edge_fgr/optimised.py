"""Graphs that onnxruntime optimised once, kept in the user's cache folder.

A second start opens what the first one wrote, with optimisation off: the same operators, the same
bits. A file is bound to the model's content, to onnxruntime's release, to the provider and to the
processor, and its name holds its size and check sum. Whatever is wrong with it, it is not there: a
cache may be slow, never wrong, and never an error.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

from edge_fgr.cpu import signature
from edge_fgr.files import cache_folder, cache_write

__all__ = ["forget", "key_of", "open_session", "read", "write"]

_KEPT = 16
"""Files in the folder; the oldest go."""

_SUFFIX = ".graph"

_PROVIDER = "CPUExecutionProvider"

_CHUNK = 1 << 18


def open_session(path: Path, options: Any, digest: str) -> Any:
    """Open a session on the CPU: from the graph that was kept, else anew, and keep it.

    Args:
        path: the model.
        options: onnxruntime's ``SessionOptions``.
        digest: SHA-256 of the file.

    Raises:
        Exception: whatever onnxruntime raises for a file that is no model.
    """
    import onnxruntime as ort

    key = key_of(digest, ort.__version__, _PROVIDER)
    level = options.graph_optimization_level
    if graph := read(key):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            # By its name: bytes would be in memory twice.
            return ort.InferenceSession(os.fspath(graph), options, providers=[_PROVIDER])
        except Exception:  # no graph of this onnxruntime after all: it is made anew
            options.graph_optimization_level = level
            forget(key)
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="edge-fgr-") as folder:
            written = Path(folder) / "graph.onnx"
            options.optimized_model_filepath = str(written)
            session = ort.InferenceSession(os.fspath(path), options, providers=[_PROVIDER])
            write(key, written.read_bytes())
            return session
    except Exception:  # no place or room to write it, or no model: the plain way tells
        options.optimized_model_filepath = ""
    return ort.InferenceSession(os.fspath(path), options, providers=[_PROVIDER])


def key_of(model: str, onnxruntime: str, provider: str) -> str:
    """Return what the name of an optimised graph begins with; there is no ``-`` in it.

    Args:
        model: SHA-256 of its file.
        onnxruntime: its release.
        provider: what runs it.
    """
    facts = "\n".join((onnxruntime, provider, signature()))
    return f"{model[:32]}{zlib.crc32(facts.encode()):08x}"


def read(key: str) -> Path | None:
    """Return the file of an optimised graph; None if it is not there, or not as it was written."""
    try:
        for path in _folder().glob(f"{key}-*{_SUFFIX}"):
            size, total = 0, 0
            with path.open("rb") as file:
                while part := file.read(_CHUNK):
                    size, total = size + len(part), zlib.crc32(part, total)
            if path.name == _name(key, size, total):
                return path
    except OSError:
        pass
    return None


def write(key: str, graph: bytes) -> None:
    """Keep an optimised graph where that is possible; two processes may do so at once."""
    cache_write(_folder() / _name(key, len(graph), zlib.crc32(graph)), graph, _KEPT)


def forget(key: str) -> None:
    """Remove what is kept under a key: onnxruntime does not take it."""
    try:
        for path in _folder().glob(f"{key}-*{_SUFFIX}"):
            path.unlink(missing_ok=True)
    except OSError:
        return


def _folder() -> Path:
    return cache_folder() / "graphs"


def _name(key: str, size: int, total: int) -> str:
    return f"{key}-{size}-{total:08x}{_SUFFIX}"
