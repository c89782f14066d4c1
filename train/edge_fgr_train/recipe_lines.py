"""A recipe written out as TOML: every key with its value, and what differs from the default."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from edge_fgr.contract import Geometry
from edge_fgr.errors import EdgeFgrError
from edge_fgr_train.backbones import native_geometry
from edge_fgr_train.recipe import Recipe

__all__ = ["Line", "recipe_lines"]

_HIDDEN = ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")
"""Categories of letters that no font shows, or that turn the order of others."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of TOML.

    Attributes:
        differs: from the default, which the line names behind its value.
    """

    text: str
    differs: bool = False


def recipe_lines(recipe: Recipe) -> list[Line]:
    """Return the recipe as TOML that ``edge-fgr train --recipe`` reads again as the same recipe.

    A default of the geometry is the backbone's own. What is not set is a comment, because TOML has
    no word for it.
    """
    lines, sections = [], []
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if is_dataclass(value):
            sections.append((field.name, value))
        elif value is None:
            lines.append(Line(f"# no [{field.name}]"))
        else:
            lines.append(_line(field.name, value, field.default))
    for name, section in sections:
        lines += [Line(""), Line(f"[{name}]"), *_section(section, _defaults(recipe, section))]
    return lines


def _defaults(recipe: Recipe, section: Any) -> dict[str, Any]:
    if isinstance(section, Geometry):
        try:
            section = native_geometry(recipe.model.backbone)
        except EdgeFgrError:  # of a chain on something else than a backbone
            return {}
        return {field.name: getattr(section, field.name) for field in fields(section)}
    return {field.name: field.default for field in fields(section)}


def _section(section: Any, defaults: dict[str, Any]) -> Iterator[Line]:
    for field in fields(section):
        yield _line(field.name, getattr(section, field.name), defaults.get(field.name, MISSING))


def _line(key: str, value: Any, default: Any) -> Line:
    text = f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
    if default is MISSING or value == default:
        return Line(text)
    return Line(f"{text}  # default: {'not set' if default is None else _toml(default)}", True)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(map(_letter, value))}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def _letter(letter: str) -> str:
    """Escape what TOML wants escaped, and what would not be seen or would turn the line."""
    if letter in '"\\':
        return f"\\{letter}"
    category = unicodedata.category(letter)
    if category == "Cs":  # half a letter: no file holds one
        return "?"
    return f"\\U{ord(letter):08x}" if category in _HIDDEN else letter
