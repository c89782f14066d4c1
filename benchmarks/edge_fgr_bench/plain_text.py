"""Tables as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edge_fgr.progress import one_line
from edge_fgr_bench.report_values import Cell, Table

__all__ = ["to_text"]

_LONGEST = 48
"""Letters of a cell; whole sentences stand below the tables."""


def to_text(table: Table) -> str:
    """Return a table with aligned columns; the best of a column, where there is one, has a star."""
    rows = [[_short(text) for text in table.head], *([_text(c) for c in r] for r in table.rows)]
    more = any(cell.more for row in table.rows for cell in row)
    below = [[], *([_short(cell.more) for cell in row] for row in table.rows)] if more else []
    widths = [
        max(len(row[i]) for row in (*rows, *(b for b in below if b))) for i in range(len(rows[0]))
    ]
    lines = [table.title] if table.title else []
    for number, row in enumerate(rows):
        lines.append(_line(row, widths, table.left))
        if below and below[number] and any(below[number]):
            lines.append(_line(below[number], widths, table.left))
    return "\n".join(lines) + "\n"


def _text(cell: Cell) -> str:
    return _short(cell.text) + ("*" if cell.best else "")


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _line(texts: Sequence[str], widths: Sequence[int], left: int) -> str:
    parts = [
        text.ljust(width) if i < left else text.rjust(width)
        for i, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()
