"""From raw samples to figures, and from figures to a table on a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from roster import OURS, PEERS
from samples import Samples

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr_bench.speed import Ratio, ratio

__all__ = ["BEGIN", "END", "Row", "markdown", "rows", "table", "told_in", "word"]

BEGIN = "<!-- peers: begin -->"
END = "<!-- peers: end -->"
"""What is between these two lines of a page is written by the bench; the rest is kept."""

_MEASURES = ("cold", "cold memory", "one image", "folder", "memory", "installed")
_OF_SIZE = ("cold memory", "memory", "installed")

Table = list[list[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One peer's figures; None is what it did not give.

    Attributes:
        peer: its name.
        failed: why something is missing; empty if nothing is.
        threads: what it gives a single image.
        cold_ms: a fresh process which classifies one photo, median.
        cold_mib: its peak resident memory, median.
        image_ms: file to label in a process that stays: median of the rounds' medians.
        images_s: of the folder on all cores, median of the rounds.
        memory_mib: peak resident memory of the process that stays.
        installed_mb: megabytes (10^6) of its environment.
        same, of: images with our label, of how many; None where labels mean nothing.
        ratios: its cost over ours for each measure, round by round: above 1 is a win of ours.
        words: what edge-fgr is by that: ``faster``, ``slower``, ``no difference`` …
    """

    peer: str
    failed: str
    threads: str
    cold_ms: float | None
    cold_mib: float | None
    image_ms: float | None
    images_s: float | None
    memory_mib: float | None
    installed_mb: float | None
    same: int | None
    of: int | None
    ratios: Mapping[str, Ratio]
    words: Mapping[str, str]


def word(share: Ratio, *, size: bool = False) -> str:
    """Return what edge-fgr is where a peer costs ``share`` of it; quartiles decide.

    Args:
        share: the peer's cost over ours.
        size: of memory or of a disk, not of time.
    """
    if share.low == share.high == 1:
        return "equal"
    if share.low > 1:
        return "smaller" if size else "faster"
    if share.high < 1:
        return "larger" if size else "slower"
    return "no difference"


def rows(found: Mapping[str, Samples], images: int) -> list[Row]:
    """Compute all figures.

    Args:
        found: samples by peer.
        images: how many the folder holds, repetitions counted.
    """
    ours = found.get(OURS, Samples())
    return [_row(name, samples, ours, images) for name, samples in found.items()]


def _row(name: str, samples: Samples, ours: Samples, images: int) -> Row:
    mine, theirs = _costs(samples), _costs(ours)
    ratios = {}
    for measure in _MEASURES if name != OURS else ():
        count = min(len(mine[measure]), len(theirs[measure]))  # who failed has fewer rounds
        if count:
            ratios[measure] = ratio(mine[measure][:count], theirs[measure][:count])
    same = of = None
    if samples.labels and ours.labels and None not in samples.labels:
        of = len(samples.labels)
        same = sum(a == b for a, b in zip(samples.labels, ours.labels, strict=True))
    folder_s = _middle(samples.folder_s)
    return Row(
        peer=name,
        failed=samples.failed,
        threads=samples.threads,
        cold_ms=_middle(samples.cold_ms),
        cold_mib=_middle(samples.cold_kib, 1024),
        image_ms=_middle(mine["one image"]),
        images_s=images / folder_s if folder_s else None,
        memory_mib=_middle(mine["memory"], 1024),
        installed_mb=_middle(mine["installed"], 1e6),
        same=same,
        of=of,
        ratios=ratios,
        words={key: word(share, size=key in _OF_SIZE) for key, share in ratios.items()},
    )


def _costs(samples: Samples) -> dict[str, Sequence[float]]:
    """Return what each measure cost, by round; what is measured once has one round."""
    return {
        "cold": samples.cold_ms,
        "cold memory": samples.cold_kib,
        "one image": [median(took) for took in samples.warm_ms],
        "folder": samples.folder_s,
        "memory": [samples.warm_kib] if samples.warm_kib else [],
        "installed": [samples.install_bytes] if samples.install_bytes else [],
    }


def _middle(values: Sequence[float], unit: float = 1) -> float | None:
    return median(values) / unit if values else None


def table(found: Sequence[Row]) -> str:
    """Return both tables, figures and comparisons, for a terminal."""
    parts = [_aligned(_figures(found)), _aligned(_comparisons(found))]
    return "\n\n".join([*parts, *_failures(found)])


def markdown(found: Sequence[Row], heading: str) -> str:
    """Return both tables in Markdown under a few words on how they were made."""
    return "\n\n".join(
        [
            heading,
            _piped(_figures(found)),
            "A peer's cost over that of edge-fgr, round by round: median (quartiles). Above 1 is "
            "a win of edge-fgr, below 1 a loss; *no difference* where the quartiles include 1.",
            _piped(_comparisons(found)),
            *(f"- {line}" for line in _failures(found)),
        ]
    )


def told_in(page: Path, text: str) -> None:
    """Write text between the markers of a page; the rest is kept to the byte.

    Raises:
        InputMissingError: the page is not there.
        UsageError: it lacks the markers.
        OutputError: it cannot be written.
    """
    try:
        before, begin, rest = page.read_bytes().decode().partition(BEGIN)
    except FileNotFoundError:
        raise InputMissingError(f"{page}: no such file; check the path") from None
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{page}: lacks the lines {BEGIN} and {END}; add them")
    atomic_write(page, f"{before}{BEGIN}\n{text}\n{END}{after}")


def _figures(found: Sequence[Row]) -> Table:
    head = ["peer", "cold, ms", "cold, MiB", "one image, ms", "threads", "folder, images/s"]
    lines = [[*head, "memory, MiB", "installed, MB", "labels as edge-fgr"]]
    lines += [
        [
            row.peer,
            _number(row.cold_ms),
            _number(row.cold_mib),
            _number(row.image_ms, 2),
            row.threads or "-",
            _number(row.images_s),
            _number(row.memory_mib),
            _number(row.installed_mb),
            _agreement(row),
        ]
        for row in found
    ]
    return lines


def _comparisons(found: Sequence[Row]) -> Table:
    lines = [["edge-fgr is, against", *_MEASURES]]
    for row in found:
        if row.peer != OURS:
            cells = [_compared(row, measure) for measure in _MEASURES]
            lines.append([row.peer, *cells])
    return lines


def _compared(row: Row, measure: str) -> str:
    share = row.ratios.get(measure)
    if share is None:
        return "-"
    shown = f"{row.words[measure]}: {share.median:.2f}"
    once = measure in ("memory", "installed")
    return shown if once else f"{shown} ({share.low:.2f} to {share.high:.2f})"


def _agreement(row: Row) -> str:
    if any(peer.name == row.peer and not peer.labels for peer in PEERS):
        return "not applicable"
    return "-" if row.same is None else f"{row.same} of {row.of}"


def _failures(found: Sequence[Row]) -> list[str]:
    return [f"{row.peer}: {row.failed}" for row in found if row.failed]


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(lines: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _piped(lines: Table) -> str:
    head, *rest = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    ]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *rest])
