"""Helpers for folders of photographs in tests."""

from __future__ import annotations

import shutil
from pathlib import Path


def place(photo: Path, root: Path, *parts: str) -> Path:
    """Copy a photo to ``root/parts``, with the folders that it needs."""
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, path)
    return path
