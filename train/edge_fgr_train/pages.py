"""Pages that open anywhere, without a network: one HTML file with its pictures inside.

Names of classes and files are the user's own: they enter a page only through its template, which
escapes them.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FunctionLoader, StrictUndefined
from PIL import Image

__all__ = ["clean", "data_uri", "render"]

_LONGEST = 160
"""Letters of a name that are kept; the page's style cuts to what fits."""

_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that turn the direction of what follows: a name could change the words beside it."""


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """Fill ``templates/<template>`` of a package; its filter ``clean`` makes names safe to show.

    A template may include others as ``package/template``.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_source),
    )
    environment.filters["clean"] = clean
    return environment.get_template(f"{package}/{template}").render(values)


def _source(name: str) -> str:
    package, _, template = name.partition("/")
    return (files(package) / "templates" / template).read_text(encoding="utf-8")


def clean(text: str) -> str:
    """Return a name on one line, without what no font shows and what turns the order of letters."""
    gone = ("Cc", "Cs", "Zl", "Zp")
    line = "".join(" " if unicodedata.category(c) in gone or c in _TURNS else c for c in text)
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def data_uri(pixels: npt.NDArray[np.uint8], side: int, quality: int = 82) -> str:
    """Return pixels ``(H, W, 3)`` as a JPEG inside a URI, no side longer than ``side`` pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
