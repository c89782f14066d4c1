"""Folders for what providers compiled from a model, in the user's cache folder.

What is in them belongs to the provider; it checks its own files. A folder is bound to the model's
content, to the device, to onnxruntime's release and to the processor. A place that cannot be
written means that nothing is kept, and is never an error.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_fgr.files import cache_folder, newest
from edge_fgr.optimised import key_of

__all__ = ["folder", "forget", "tidy"]

_KEPT = 8
"""Folders that stay; the ones unused for longest go."""


def folder(device: str, digest: str, onnxruntime: str) -> Path | None:
    """Return the folder of a model's engines, made if need be; None where that cannot be.

    Args:
        device: what runs the model.
        digest: SHA-256 of its file.
        onnxruntime: its release.
    """
    place = _root() / f"{device}-{key_of(digest, onnxruntime, device)}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(place)
    except OSError:
        return None
    return place if os.access(place, os.W_OK | os.X_OK) else None


def forget(place: Path) -> None:
    """Remove a folder: the provider does not take what is in it."""
    shutil.rmtree(place, ignore_errors=True)


def tidy() -> None:
    """Remove the folders that were not used for longest, beyond a few."""
    try:
        kept = newest(_root().iterdir())
    except OSError:
        return
    for old in kept[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _root() -> Path:
    return cache_folder() / "engines"
