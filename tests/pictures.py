"""Helpers for pictures in tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def opened(path: Path) -> Image.Image:
    """Read a picture and close its file."""
    with Image.open(path) as picture:
        picture.load()
        return picture
