"""Tables and curves of a report: what corruptions cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_fgr_bench.answers import Cell as Counted
from edge_fgr_bench.report_values import NOTHING, Cell, Side, Table, spell
from edge_fgr_bench.summary import wilson

__all__ = ["Curve", "curves", "robustness_tables"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Top-1 of one candidate in one group: (severity, share) with 0 for clean images."""

    mark: str
    number: int
    points: tuple[tuple[int, float], ...]


def robustness_tables(sides: Sequence[Side]) -> list[Table]:
    """Return top-1 by corruption, what is called unknown, and how pairs differ."""
    named = _corruptions(sides)
    tables = []
    for title, of, note in (
        ("Top-1 by corruption, %", _right, _COST),
        ("Called unknown by corruption, %", _unknown, _CALLED),
    ):
        known = [side for side in sides if any(of(one) is not None for one in _cells(side))]
        if known:
            tables.append(_heat(title, known, named, of, note))
    if table := _same(sides, named):
        tables.append(table)
    return tables


def curves(sides: Sequence[Side]) -> dict[str, list[Curve]]:
    """Return by group the curves of all candidates, where truths are known."""
    found: dict[str, list[Curve]] = {}
    named = _corruptions(sides)
    for group in dict.fromkeys(group for group, _ in named):
        names = [name for of, name in named if of == group]
        for side in sides:
            by: dict[int, list[float]] = {}
            for one in _cells(side):
                right = _right(one)
                if right is not None and one.severity and one.corruption in names:
                    by.setdefault(one.severity, []).append(right)
            clean = [share for name in names if (share := _clean(side, name, _right)) is not None]
            if by and clean:
                by[0] = clean
            if by:
                points = tuple((level, _mean(by[level])) for level in sorted(by))
                found.setdefault(group, []).append(Curve(side.mark, side.number, points))
    return found


_COST = (
    "Mean over the severities; below it the difference to the same images as they are, in points, "
    "and the 95 % interval, for which an image counts once whatever its severities; the darker the "
    "larger the loss."
)
_CALLED = (
    "Mean over the severities; below it the difference to the same images as they are, in points, "
    "and the 95 % interval, for which an image counts once."
)


def _heat(
    title: str,
    sides: Sequence[Side],
    named: Sequence[tuple[str, str]],
    of: Callable[[Counted], float | None],
    note: str,
) -> Table:
    grid, images = [], dict[str, int]()
    for _, name in named:
        row = []
        for side in sides:
            shares = [of(one) for one in _cells(side) if one.severity and one.corruption == name]
            known = [share for share in shares if share is not None]
            clean = _clean(side, name, of)
            row.append((_mean(known) if known else None, clean))
            images[side.mark] = max(one.images for one in _cells(side))
        grid.append(row)
    moved = [
        abs(now - clean)
        for row in grid
        for now, clean in row
        if now is not None and clean is not None
    ]
    most = max(moved, default=0.0) or 1.0
    counts = [images[side.mark] for side in sides]
    clear = [
        _bare(_clean(side, None, of), count) for side, count in zip(sides, counts, strict=True)
    ]
    rows = [(Cell("as they are"), Cell(""), *clear)]
    for (group, name), row in zip(named, grid, strict=True):
        pairs = zip(row, counts, strict=True)
        cells = [_moved(now, clean, most, count) for (now, clean), count in pairs]
        rows.append((Cell(name), Cell(group), *cells))
    means = []
    for i in range(len(sides)):
        column = [row[i] for row in grid if row[i][0] is not None]
        now = _mean([one[0] or 0.0 for one in column]) if column else None
        means.append(_bare(now, counts[i]))
    rows.append((Cell("mean of all"), Cell(""), *means))
    return Table(title, ("Corruption", "Group", *(s.mark for s in sides)), tuple(rows), 2, note)


def _same(sides: Sequence[Side], named: Sequence[tuple[str, str]]) -> Table | None:
    by = {(side.number, side.candidate.key): side for side in sides}
    marks: dict[tuple[str, str], tuple[Side, Side]] = {}
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for number, document in {side.number: side.document for side in sides}.items():
        for one in document.robustness.same if document.robustness else ():
            a, b = by.get((number, one.a)), by.get((number, one.b))
            if a and b and one.severity:
                marks[a.mark, b.mark] = a, b
                per = found.setdefault((a.mark, b.mark), {})
                same, images = per.get(one.corruption, (0, 0))
                per[one.corruption] = same + one.same, images + one.images
    if not found:
        return None
    head = ["Corruption", "Group"]
    for a_mark, b_mark in found:
        head += [f"{a_mark}, {b_mark}: one label, %", f"{b_mark} less {a_mark}: top-1, points"]
    rows = []
    for group, name in named:
        cells = [Cell(name), Cell(group)]
        for pair, per in found.items():
            same, images = per.get(name, (0, 0))
            levels = len({one.severity for one in _cells(marks[pair][0]) if one.severity})
            each = images // max(levels, 1)
            cells.append(_bare(same / images if images else None, each))
            means = [_top1(side, name) for side in marks[pair]]
            known = [mean for mean in means if mean is not None]
            cells.append(Cell(_signed(100 * (known[1] - known[0])) if len(known) == 2 else NOTHING))
        rows.append(tuple(cells))
    note = (
        "The second of a pair against the first, over all severities; below it the 95 % interval, "
        "for which an image counts once."
    )
    return Table("Pairs by corruption", tuple(head), tuple(rows), 2, note)


def _corruptions(sides: Sequence[Side]) -> list[tuple[str, str]]:
    """Return group and name of every corruption, in the order of the reports."""
    found: dict[tuple[str, str], None] = {}
    for side in sides:
        groups = side.document.robustness.groups if side.document.robustness else {}
        used = dict.fromkeys(one.corruption for one in _cells(side) if one.severity)
        ordered = [name for name in groups if name in used]
        ordered += [name for name in used if name not in groups]
        found |= dict.fromkeys((groups.get(name, "other"), name) for name in ordered)
    first = list(dict.fromkeys(group for group, _ in found))
    return sorted(found, key=lambda one: first.index(one[0]))


def _cells(side: Side) -> list[Counted]:
    cells = side.document.robustness.cells if side.document.robustness else ()
    return [one for one in cells if one.key == side.candidate.key and one.images]


def _right(one: Counted) -> float | None:
    return None if one.right is None else one.right / one.images


def _unknown(one: Counted) -> float | None:
    return None if one.unknown is None else one.unknown / one.images


def _clean(side: Side, name: str | None, of: Callable[[Counted], float | None]) -> float | None:
    """Return the share on images as they are: those of one corruption where it has its own."""
    clean = [one for one in _cells(side) if not one.severity]
    own = [one for one in clean if one.corruption == name] or clean
    known = [share for share in map(of, own) if share is not None]
    return _mean(known) if known else None


def _top1(side: Side, name: str) -> float | None:
    cells = [_right(one) for one in _cells(side) if one.severity and one.corruption == name]
    known = [share for share in cells if share is not None]
    return _mean(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bare(share: float | None, images: int) -> Cell:
    if share is None:
        return Cell(NOTHING)
    return Cell(spell(100 * share, 1), _interval(share, images))


def _moved(now: float | None, clean: float | None, most: float, images: int) -> Cell:
    if now is None or clean is None:
        return _bare(now, images)
    heat = abs(now - clean) / most
    below = f"{_signed(100 * (now - clean))}; {_interval(now, images)}"
    return Cell(spell(100 * now, 1), below, heat=heat)


def _interval(share: float, images: int) -> str:
    """Return the interval of a share of images, were it one share: severities are no new images."""
    found = wilson(round(share * images), images)
    return f"{spell(100 * found.low, 0)}\N{EN DASH}{spell(100 * found.high, 0)}"


def _signed(points: float) -> str:
    text = spell(points, 1)
    return text if text.startswith("\N{MINUS SIGN}") or not text.strip("0.") else f"+{text}"
