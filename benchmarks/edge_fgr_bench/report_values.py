"""What a report shows, for the page and for Markdown alike: sides, tables of texts, warnings.

Standard library and numpy alone: a device writes the Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_fgr.contract import Label
from edge_fgr_bench.answers import Judged, Share
from edge_fgr_bench.document import Candidate, Document
from edge_fgr_bench.figures import judged_of
from edge_fgr_bench.samples import Latency
from edge_fgr_bench.summary import Speed, speed_of

__all__ = [
    "NOTHING",
    "Cell",
    "Side",
    "Table",
    "Warned",
    "best_of",
    "cell",
    "comparable",
    "plain",
    "prefix",
    "sides_of",
    "spell",
    "tidy",
    "turned",
    "warnings_of",
]

NOTHING = "\N{EN DASH}"
"""Where nothing was measured."""

_LONGEST = 600
"""Letters of a sentence that are kept."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; its texts may hold anything: whoever shows them makes them safe.

    Attributes:
        text: what it says.
        more: what stands below in small letters.
        best: better than every other in its column.
        heat: how strongly it is shaded, 0 to 1; None: not at all.
    """

    text: str
    more: str = ""
    best: bool = False
    heat: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as the head has.

    Attributes:
        left: columns that are words; those after them are figures.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A candidate of one of the documents, with whatever was found of it.

    Attributes:
        mark: its key, with the number of its document in front where there are several.
        number: of the document, from 1.
    """

    mark: str
    number: int
    document: Document
    candidate: Candidate
    latency: Latency | None
    speed: Speed | None
    judged: Judged | None

    @property
    def pool(self) -> tuple[str, tuple[Label, ...]]:
        """Images and classes: accuracies of equal ones can be compared."""
        return self.document.images.digest, self.candidate.labels


@dataclass(frozen=True, slots=True)
class Warned:
    """A sentence that a reader must see first, and in a word what it is about."""

    word: str
    line: str


def sides_of(documents: Sequence[Document]) -> list[Side]:
    """Return all candidates of all documents in order."""
    sides = []
    for number, document in enumerate(documents, 1):
        for candidate in document.candidates:
            latency = next((one for one in document.latency if one.key == candidate.key), None)
            sides.append(
                Side(
                    mark=prefix(documents, number) + plain(candidate.key)[:6],
                    number=number,
                    document=document,
                    candidate=candidate,
                    latency=latency,
                    speed=speed_of(latency) if latency else None,
                    judged=judged_of(document, candidate.key),
                )
            )
    return sides


def prefix(documents: Sequence[Document], number: int) -> str:
    """Return what stands before the keys of a document."""
    return str(number) if len(documents) > 1 else ""


def warnings_of(documents: Sequence[Document]) -> list[Warned]:
    """Return all that is missing, ended early or is not to be trusted."""
    found = []
    for number, document in enumerate(documents, 1):
        before = f"Document {number}: " if len(documents) > 1 else ""
        first = prefix(documents, number)
        if not document.complete:
            line = "the run did not reach its end; what it found until then is shown."
            found.append(Warned("Incomplete", before + line))
        found += [Warned("Missing", before + line) for line in document.missing]
        if broken := document.images.broken:
            more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
            count = f"{len(broken)} file{'s' if len(broken) > 1 else ''}"
            found.append(Warned("Unreadable", f"{before}{count}: {'; '.join(broken[:3])}{more}"))
        judged = document.accuracy.judged if document.accuracy else ()
        for one, word in ((document.latency, "timing"), (judged, "answers")):
            found += [
                Warned("Ended early", f"{first}{part.key}, {word}: {part.error}")
                for part in one
                if part.error
            ]
        found += [
            Warned("Noise", f"{first}{latency.key}: {line}")
            for latency in document.latency
            for line in latency.noise
        ]
    return [replace(one, line=tidy(one.line)) for one in found]


def comparable(sides: Sequence[Side], of: Callable[[Side], object]) -> bool:
    """Tell whether all sides have the same of something."""
    return len({of(side) for side in sides}) <= 1


def best_of(shares: Sequence[Share | None], *, lower: bool) -> int | None:
    """Return the place of the best; None unless its interval is apart from all the others'.

    Args:
        shares: at least two that are known.
        lower: whether less is better.
    """
    known = [(i, share) for i, share in enumerate(shares) if share is not None]
    if len(known) < 2:
        return None
    sign = 1 if lower else -1
    (place, best), *others = sorted(known, key=lambda one: sign * one[1].value)
    if lower:
        apart = all(best.high < other.low for _, other in others)
    else:
        apart = all(best.low > other.high for _, other in others)
    return place if apart else None


def cell(share: Share | None, scale: float = 1.0, places: int | None = None) -> Cell:
    """Return a figure with its interval below; a figure without one has equal ends.

    Args:
        share: None where nothing was measured.
        scale: each is multiplied by this; 100 for percent.
        places: behind the point; None: as many as three digits need.
    """
    if share is None:
        return Cell(NOTHING)
    places = _places(share.value * scale) if places is None else places
    ends = [spell(end * scale, places) for end in (share.low, share.high)]
    between = " to " if share.low < 0 else "\N{EN DASH}"
    return Cell(
        spell(share.value * scale, places),
        between.join(ends) if share.low < share.high else "",
    )


def spell(value: float, places: int | None = None) -> str:
    """Return a number with three digits, or so many places; never ``-0.0``."""
    places = _places(value) if places is None else places
    text = f"{value:,.{places}f}"
    if not text.strip("-0.,"):
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def turned(title: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """Return a table of words whose rows are named; rows that say nothing anywhere are left out."""
    shown = [(name, values) for name, values in rows if set(values) - {NOTHING, ""}]
    return Table(
        title,
        ("", *head),
        tuple((Cell(name), *(Cell(value) for value in values)) for name, values in shown),
        left=1 + len(head),
    )


def plain(text: str) -> str:
    """Return a word for a plot, where every sign must have a known width."""
    known = "".join(c if c.isascii() and (c.isalnum() or c in " _.+-") else "?" for c in text)
    return known[:24].strip() or "?"


def tidy(text: str) -> str:
    """Return a sentence on one line, without signs that cannot be seen."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _places(value: float) -> int:
    size = abs(value)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
