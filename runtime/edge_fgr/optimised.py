"""Graphs that onnxruntime optimised once, kept in the user's cache folder.

A second start opens what the first one wrote, with optimisation off: the same operators, the same
bits. A file is bound to the model's content, to onnxruntime's release, to the provider and to the
processor, and begins with a digest of itself. Whatever is wrong with it, it is not there: a cache
may be slow, never wrong, and never an error. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from edge_fgr.cpu import signature
from edge_fgr.errors import OutputError
from edge_fgr.files import atomic_write, cache_folder

__all__ = ["place_of", "read", "write"]

_KEPT = 16
"""Files in the folder; the oldest go."""

_DIGEST = 32


def place_of(model: str, onnxruntime: str, provider: str) -> Path:
    """Return where the optimised graph of a model is, or would be.

    Args:
        model: SHA-256 of its file.
        onnxruntime: its release.
        provider: what runs it.
    """
    facts = "\n".join((model, onnxruntime, provider, signature()))
    name = hashlib.sha256(facts.encode()).hexdigest()[:32]
    return cache_folder() / "graphs" / f"{name}.graph"


def read(place: Path) -> bytes | None:
    """Return an optimised graph; None if it is not there, or not as it was written."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    digest, graph = content[:_DIGEST], content[_DIGEST:]
    return graph if hashlib.sha256(graph).digest() == digest else None


def write(place: Path, graph: bytes) -> None:
    """Keep an optimised graph where that is possible; two processes may do so at once."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(place, hashlib.sha256(graph).digest() + graph)
        kept = sorted(place.parent.glob("*.graph"), key=os.path.getmtime, reverse=True)
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, OutputError):
        return
