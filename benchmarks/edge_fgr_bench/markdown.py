"""What ``edge-fgr bench`` found, as Markdown: the page's tables without its pictures and plots.

Standard library and numpy alone, so that a device can write it. What the user named is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edge_fgr_bench.answer_tables import FlipGroup, accuracy_tables, flip_groups
from edge_fgr_bench.document import Document
from edge_fgr_bench.gates import Outcome
from edge_fgr_bench.report_values import Cell, Table, sides_of, tidy, warnings_of
from edge_fgr_bench.robust_tables import robustness_tables
from edge_fgr_bench.speed_tables import HOW, conditions, host_line, latency_tables, summary_table

__all__ = ["to_markdown"]


def to_markdown(
    documents: Sequence[Document], outcomes: Sequence[Outcome] = (), title: str = ""
) -> str:
    """Return the report of at least one document. Equal documents give equal text.

    Args:
        documents: candidates of several are shown side by side.
        outcomes: of the limits, as ``edge_fgr_bench.gates`` judged them.
        title: of the whole; empty: that of the first document.
    """
    return "\n".join(_lines(documents, outcomes, title)) + "\n"


def _lines(documents: Sequence[Document], outcomes: Sequence[Outcome], title: str) -> Iterator[str]:
    sides = sides_of(documents)
    yield f"# {_text(title or documents[0].title)}"
    for number, document in enumerate(documents, 1):
        images = document.images
        version = document.host.versions.get("edge-fgr", "?")
        several = f"Document {number}: {_text(document.title)}. " if len(documents) > 1 else ""
        yield ""
        yield (
            f"{several}{_text(document.made)}, {_text(host_line(document))}. "
            f"{images.count:,} images of {_text(images.source)}, {images.labelled:,} labelled. "
            f"edge-fgr {_text(version)}."
        )
        if document.command:
            yield ""
            yield f"Measured with {_text(document.command)}"
        if document.note:
            yield ""
            yield _text(document.note)
    yield from _list(
        "Read first", [f"**{w.word}.** {_text(w.line)}" for w in warnings_of(documents)]
    )
    limits = [f"**{'kept' if one.kept else 'BROKEN'}**: {_text(one.line)}" for one in outcomes]
    yield from _list("Limits", limits)
    yield from _section("Summary", [summary_table(sides)])
    yield from _section("Latency", latency_tables(sides))
    yield from _section("Accuracy", accuracy_tables(sides))
    for group in flip_groups(sides):
        yield from _table(_flipped(group))
    yield from _section("Robustness", robustness_tables(sides))
    yield from _section("Conditions", conditions(documents, sides))
    yield from _list("How figures are computed", [f"**{name}.** {line}" for name, line in HOW])


def _list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"## {title}", "", *(f"- {line}" for line in lines))


def _section(title: str, tables: Sequence[Table]) -> Iterator[str]:
    if tables:
        yield from ("", f"## {title}")
        for table in tables:
            yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield from ("", f"### {_text(table.title)}")
    yield ""
    yield _row(map(_text, table.head))
    yield _row("---" if i < table.left else "---:" for i in range(len(table.head)))
    for cells in table.rows:
        yield _row(map(_cell, cells))
    if table.note:
        yield from ("", _text(table.note))


def _row(texts: Iterator[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _cell(one: Cell) -> str:
    text = f"**{_text(one.text)}**" if one.best else _text(one.text)
    return f"{text} ({_text(one.more)})" if one.more else text


def _flipped(group: FlipGroup) -> Table:
    rows = tuple(
        (
            Cell(item.name),
            Cell(" / ".join(item.truth)),
            Cell(" / ".join(item.flip.a), f"{100 * item.flip.a_probability:.1f} %"),
            Cell(" / ".join(item.flip.b), f"{100 * item.flip.b_probability:.1f} %"),
            Cell(item.flip.outcome),
        )
        for item in group.items
    )
    head = ("Image", "Truth", group.a, group.b, f"Outcome of {group.b}")
    title = f"Flipped images, {group.a} and {group.b}"
    note = f"The first {len(rows)} of {group.total:,}." if group.total > len(rows) else ""
    return Table(title, head, rows, len(head), note)


def _text(text: str) -> str:
    """Return text that Markdown takes as it is, also in a cell of a table."""
    escaped = re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", tidy(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)
