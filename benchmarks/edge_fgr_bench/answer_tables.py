"""Tables of a report: how right candidates are, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_fgr.contract import Label
from edge_fgr_bench.answers import Flip, Pair
from edge_fgr_bench.document import Document
from edge_fgr_bench.report_values import NOTHING, Cell, Side, Table, cell, spell
from edge_fgr_bench.summary import wilson

__all__ = [
    "FlipGroup",
    "Shown",
    "accuracy_tables",
    "flip_groups",
]

_SHOWN = 24
"""Flipped images of each pair."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A flipped image with its name and its truth, an empty path where that is not known."""

    flip: Flip
    name: str
    truth: Label


@dataclass(frozen=True, slots=True)
class FlipGroup:
    """The flipped images of a pair; ``total`` of them, the first few as ``items``."""

    a: str
    b: str
    total: int
    items: tuple[Shown, ...]


def accuracy_tables(sides: Sequence[Side]) -> list[Table]:
    """Return figures, who agrees with whom, pairs, and pairs across documents."""
    tables = [_figures(sides)] if any(side.judged for side in sides) else []
    pairs, across = list(_pairs(sides)), list(_across(sides))
    if pairs or across:
        tables.append(_matrix(sides, pairs, across))
    if pairs:
        tables.append(_pair_table(pairs))
    if across:
        rows = tuple(
            (
                Cell(f"{a.mark}, {b.mark}"),
                *(Cell(f"{s.candidate.device} on {s.document.host.cpu}") for s in (a, b)),
                Cell(f"{total:,}"),
                Cell(f"{total - same:,}"),
                cell(wilson(same, total), 100, 2),
            )
            for a, b, same, total in across
        )
        head = ("Pair", "One", "Other", "Images", "Two labels", "One label, %")
        note = "The same model file on the same images, answered in two runs."
        tables.append(Table("Across documents", head, rows, 3, note))
    return tables


def flip_groups(sides: Sequence[Side]) -> list[FlipGroup]:
    """Return the flipped images of all pairs that have any."""
    groups = []
    for a, b, pair in _pairs(sides):
        accuracy = a.document.accuracy
        if accuracy and pair.flips:
            items = tuple(
                Shown(
                    flip,
                    # A document from elsewhere may name images that it does not list.
                    "".join(accuracy.names[flip.image : flip.image + 1]) or f"image {flip.image}",
                    next(iter(accuracy.truths[flip.image : flip.image + 1]), ()),
                )
                for flip in pair.flips[:_SHOWN]
            )
            groups.append(FlipGroup(a.mark, b.mark, len(pair.flips), items))
    return groups


def _figures(sides: Sequence[Side]) -> Table:
    rows = []
    for side in sides:
        if (judged := side.judged) is None:
            continue
        worst = Cell(NOTHING)
        if judged.worst:
            made = cell(judged.worst.share, 100, 0)
            name = " / ".join(judged.worst.label)
            worst = Cell(name, f"{made.text} % of {judged.worst.images:,} ({made.more})")
        shares = [
            cell(one, 100, 1)
            for one in (judged.top1, judged.top5, judged.macro, judged.coarse, judged.ece)
        ]
        unknown = cell(judged.unknown, 100, 1)
        counts = Cell(
            f"{judged.images:,}", f"{judged.left_out:,} left out" if judged.left_out else ""
        )
        rows.append((Cell(side.mark), worst, counts, *shares, unknown))
    head = (
        "Key", "Worst class", "Images", "Top-1, %", "Top-5, %", "Macro, %", "Coarse, %", "ECE, %",
        "Unknown, %",
    )  # fmt: skip
    note = "Below each figure its 95 % interval. Images of classes that a model lacks are left out."
    return Table("Figures", head, tuple(rows), 2, note)


def _pairs(sides: Sequence[Side]) -> Iterator[tuple[Side, Side, Pair]]:
    by = {(side.number, side.candidate.key): side for side in sides}
    for number, document in {side.number: side.document for side in sides}.items():
        for pair in document.accuracy.pairs if document.accuracy else ():
            if (number, pair.a) in by and (number, pair.b) in by:
                yield by[number, pair.a], by[number, pair.b], pair


def _across(sides: Sequence[Side]) -> Iterator[tuple[Side, Side, int, int]]:
    """Yield one model on equal images in two documents: equal labels, of how many images."""
    for i, a in enumerate(sides):
        for b in sides[i + 1 :]:
            if a.number == b.number or a.candidate.digest != b.candidate.digest:
                continue
            if a.pool != b.pool or not a.judged or not b.judged:
                continue
            one, other = a.judged.best, b.judged.best
            if one and len(one) == len(other) and _names(a.document) == _names(b.document):
                yield a, b, sum(x == y for x, y in zip(one, other, strict=True)), len(one)


def _names(document: Document) -> tuple[str, ...]:
    return document.accuracy.names if document.accuracy else ()


def _matrix(
    sides: Sequence[Side],
    pairs: Sequence[tuple[Side, Side, Pair]],
    across: Sequence[tuple[Side, Side, int, int]],
) -> Table:
    known = {(a.mark, b.mark): pair.agreement.value for a, b, pair in pairs}
    known |= {(a.mark, b.mark): same / total for a, b, same, total in across}
    known |= {(b, a): share for (a, b), share in known.items()}
    marks = [side.mark for side in sides if any(side.mark in pair for pair in known)]
    most = max(1 - share for share in known.values()) or 1.0
    rows = tuple(
        (
            Cell(row),
            *(
                Cell(spell(100 * known[row, column], 2), heat=(1 - known[row, column]) / most)
                if (row, column) in known
                else Cell("" if row == column else NOTHING)
                for column in marks
            ),
        )
        for row in marks
    )
    note = "Share of images with one label from both, in percent; a darker shade is less."
    return Table("Who agrees with whom", ("Key", *marks), rows, 1, note)


def _pair_table(pairs: Sequence[tuple[Side, Side, Pair]]) -> Table:
    rows = tuple(
        (
            Cell(f"{a.mark}, {b.mark}"),
            Cell(f"{pair.images:,}"),
            cell(pair.agreement, 100, 2),
            *(Cell(f"{n:,}" if pair.labelled else NOTHING) for n in (pair.lost, pair.won)),
            Cell(NOTHING if pair.p is None else f"{pair.p:.2g}"),
            cell(pair.drop, 100, 2),
            Cell(f"{pair.largest:.3g}"),
        )
        for a, b, pair in pairs
    )
    head = (
        "Pair", "Images", "One label, %", "Lost", "Won", "McNemar p", "Drop of top-1, points",
        "Largest logit difference",
    )  # fmt: skip
    note = "The second of a pair against the first: lost, only the first was right; won, only it."
    return Table("Pairs", head, rows, 1, note)
