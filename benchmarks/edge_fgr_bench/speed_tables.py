"""Tables of a report: all candidates at a glance, how fast they are, and under which conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from edge_fgr_bench.answers import Share
from edge_fgr_bench.document import Document
from edge_fgr_bench.figures import robust_top1
from edge_fgr_bench.report_values import (
    NOTHING,
    Cell,
    Side,
    Table,
    best_of,
    cell,
    comparable,
    spell,
    turned,
)
from edge_fgr_bench.samples import PHASES, Block
from edge_fgr_bench.summary import wilson

__all__ = ["HOW", "block_medians", "conditions", "host_line", "latency_tables", "summary_table"]

HOW = (
    ("p50, p90, p99", "Percentiles of the queries, each timed by itself, one after another. Their "
     "95 % interval is that of the order statistics (Conover, Practical Nonparametric Statistics) "
     "and takes samples for independent. Samples next to each other in time are not: the true "
     "uncertainty is larger, and runs on other days differ by more."),
    ("Whole path", "From the file to the verdict: decode, preprocess, inference, decide."),
    ("Images a second", "With all processors at work; the median, the slowest and the fastest "
     "repetition."),
    ("Cold start", "Median wall time of whole processes that start, load the model and classify "
     "one image."),
    ("Peak memory", "Largest resident set of the process that answered all queries."),
    ("Joules a query", "Energy of the whole processor package (RAPL) over the queries answered "
     "meanwhile; everything else that ran is in it."),
    ("Top-1, top-5", "Right answers of the labelled images of known classes; 95 % interval of "
     "Wilson (1927)."),
    ("Macro", "Mean over the classes of the share of right answers."),
    ("ECE", "Expected calibration error in 15 bins (Guo et al., ICML 2017): by how much the stated "
     "probability misses the share of right answers."),
    ("Unknown", "Share of all images whose verdict is that they belong to none of the classes."),
    ("McNemar", "Two-sided exact test of the images that only one of two candidates gets right."),
    ("Robust top-1", "Mean of top-1 over all corruptions and severities, each with equal weight. "
     "For its 95 % interval (Wilson) an image counts once, though it comes again and again."),
    ("Bold", "The best of a column, where its interval is apart from all the others'."),
)  # fmt: skip
"""How each figure is computed."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the summary: ``lower`` is better, or None: never bold."""

    head: str
    of: Callable[[Side], Share | None]
    lower: bool | None = None
    scale: float = 1.0
    places: int | None = None
    pool: Callable[[Side], object] = lambda side: side.document.images.digest


def summary_table(sides: Sequence[Side]) -> Table:
    """Return a row for each candidate, without the columns that nothing was measured of."""
    rows = [
        [
            Cell(side.mark),
            Cell(f"{side.candidate.name} v{side.candidate.version}", _where(side)),
        ]
        for side in sides
    ]
    head = ["Key", "Model"]
    for column in _COLUMNS:
        shares = [column.of(side) for side in sides]
        known = [side for side, share in zip(sides, shares, strict=True) if share is not None]
        if not known:
            continue
        head.append(column.head)
        best = None
        if column.lower is not None and comparable(known, column.pool):
            best = best_of(shares, lower=column.lower)
        for i, share in enumerate(shares):
            made = cell(share, column.scale, column.places)
            rows[i].append(replace(made, best=i == best))
    note = "Below each figure its 95 % interval; of images a second the slowest and fastest run."
    if not comparable(sides, lambda side: side.document.images.digest):
        note += " Candidates that saw different images are not comparable: none of them is bold."
    return Table("", tuple(head), tuple(map(tuple, rows)), 2, note)


def latency_tables(sides: Sequence[Side]) -> list[Table]:
    """Return the percentiles by phase, and what the machine did meanwhile."""
    rows = [
        (Cell(side.mark), Cell(name), *(cell(by.get(phase)) for phase in PHASES))
        for side in sides
        if side.speed and side.speed.p50
        for name, by in (("p50", side.speed.p50), ("p90", side.speed.p90), ("p99", side.speed.p99))
    ]
    timed = [side for side in sides if side.latency]
    head = ("Key", "", *PHASES[:-1], "whole path")
    tables = [Table("Percentiles by phase, ms", head, tuple(rows), 2)] if rows else []
    if timed:
        marks = [side.mark for side in timed]
        tables.append(turned("What ran, and what the machine did meanwhile", marks, _state(timed)))
    return tables


def block_medians(side: Side) -> list[float]:
    """Return the median of the whole path in each turn, in milliseconds, in order."""
    if not side.latency or not side.latency.us:
        return []
    whole, found, start = side.latency.us.get("whole", ()), [], 0
    for block in side.latency.blocks:
        if part := whole[start : start + block.queries]:
            found.append(median(part) / 1000)
        start += block.queries
    return found


def host_line(document: Document) -> str:
    """Return the machine in one line."""
    host = document.host
    many = f"{host.processors} processor{'' if host.processors == 1 else 's'}"
    version = host.versions.get("onnxruntime")
    return ", ".join(
        [host.cpu, many, host.system, *([f"onnxruntime {version}"] if version else [])]
    )


def conditions(documents: Sequence[Document], sides: Sequence[Side]) -> list[Table]:
    """Return what was asked for, on which machines and of which models."""
    heads = [
        f"Document {i}" if len(documents) > 1 else "Value" for i in range(1, 1 + len(documents))
    ]
    hosts, asked = [d.host for d in documents], [d.settings for d in documents]
    versions = sorted({name for host in hosts for name in host.versions})
    settings: list[tuple[str, Sequence[str]]] = [
        ("Command", [d.command or NOTHING for d in documents]),
        ("Begun", [d.made for d in documents]),
        ("Took", [f"{d.seconds:,.0f} s" for d in documents]),
        ("Parts", [", ".join(one.parts) for one in asked]),
        ("Threads of an inference", [str(one.threads) for one in asked]),
        ("Queries of a candidate, at least", [f"{one.queries:,}" for one in asked]),
        ("Time of a candidate, at least", [f"{one.seconds:g} s" for one in asked]),
        ("Cold starts of a candidate", [str(one.cold_runs) for one in asked]),
        ("Images of a corruption", [f"{one.corruption_images:,}" for one in asked]),
        ("Seed", [str(one.seed) for one in asked]),
        ("Splits", [", ".join(one.splits) or "all" for one in asked]),
        ("Images", [d.images.source for d in documents]),
        ("Readable; labelled", [f"{d.images.count:,}; {d.images.labelled:,}" for d in documents]),
        ("SHA-256 of the images", [d.images.digest for d in documents]),
    ]
    machine: list[tuple[str, Sequence[str]]] = [
        ("Processor", [host.cpu for host in hosts]),
        ("Machine", [host.machine for host in hosts]),
        ("Abilities", [" ".join(host.features) for host in hosts]),
        ("Processors", [str(host.processors) for host in hosts]),
        ("Memory", [f"{h.memory_mib:,} MiB" if h.memory_mib else NOTHING for h in hosts]),
        ("System", [host.system for host in hosts]),
        ("Governor of the clock", [host.governor or NOTHING for host in hosts]),
        *((name, [host.versions.get(name, NOTHING) for host in hosts]) for name in versions),
    ]
    models = [side.candidate for side in sides]
    model: list[tuple[str, Sequence[str]]] = [
        ("File", [one.file for one in models]),
        ("Name", [f"{one.name} v{one.version}" for one in models]),
        ("SHA-256", [one.digest for one in models]),
        ("Target", [one.target for one in models]),
        ("Bytes", [f"{one.bytes:,}" for one in models]),
        ("Input, pixels", [f"{one.size} by {one.size}" for one in models]),
        ("Classes", [f"{len(one.labels):,}" for one in models]),
        ("Device asked for", [one.asked for one in models]),
        ("Device that ran", [one.device or NOTHING for one in models]),
        ("Provider", [one.provider or NOTHING for one in models]),
    ]
    return [
        turned("Settings", heads, settings),
        turned("Machine" if len(documents) == 1 else "Machines", heads, machine),
        turned("Models", [side.mark for side in sides], model),
    ]


def _where(side: Side) -> str:
    device = side.candidate.device or f"{side.candidate.asked} asked, nothing ran"
    return f"{side.candidate.target}, {device}"


def _exact(value: float | None) -> Share | None:
    return None if value is None else Share(value, value, value)


def _percentile(by: str) -> Callable[[Side], Share | None]:
    return lambda side: getattr(side.speed, by).get("whole") if side.speed else None


def _figure(name: str) -> Callable[[Side], Share | None]:
    def of(side: Side) -> Share | None:
        share = getattr(side.speed, name) if side.speed else None
        return share if isinstance(share, Share) else _exact(share)

    return of


def _answer(name: str) -> Callable[[Side], Share | None]:
    return lambda side: getattr(side.judged, name) if side.judged else None


def _robust(side: Side) -> Share | None:
    value, robustness = robust_top1(side.document, side.candidate.key), side.document.robustness
    if value is None or robustness is None:
        return None
    found = wilson(round(value * robustness.images), robustness.images)
    return Share(value, min(value, found.low), max(value, found.high))


def _pool(side: Side) -> object:
    return side.pool


_COLUMNS = (
    _Column("File, MiB", lambda side: _exact(side.candidate.bytes / 2**20), lower=True,
            pool=lambda _: None),
    _Column("p50, ms", _percentile("p50"), lower=True),
    _Column("p90, ms", _percentile("p90"), lower=True),
    _Column("p99, ms", _percentile("p99"), lower=True),
    _Column("Images/s", _figure("rate"), lower=False),
    _Column("Cold start, ms", _figure("cold"), lower=True),
    _Column("Peak memory, MiB", _figure("peak_mib")),
    _Column("J/query", _figure("joules")),
    _Column("Top-1, %", _answer("top1"), False, 100, 1, _pool),
    _Column("ECE, %", _answer("ece"), True, 100, 1, _pool),
    _Column("Robust top-1, %", _robust, False, 100, 1, _pool),
)  # fmt: skip


def _state(sides: Sequence[Side]) -> list[tuple[str, Sequence[str]]]:
    known = [(side, side.latency, side.speed) for side in sides if side.latency and side.speed]
    blocks = [latency.blocks for _, latency, _ in known]

    def ranges(of: Callable[[Block], float | None], places: int | None = None) -> list[str]:
        return [_range((of(block) for block in some), places) for some in blocks]

    return [
        ("Provider", [_provider(side) for side in sides]),
        ("Threads of an inference", [str(side.document.settings.threads) for side in sides]),
        ("Bound to processors", [", ".join(map(str, one.pinned)) or "none" for _, one, _ in known]),
        ("Queries, in turns", [f"{speed.queries:,}, {len(one.blocks)}" for _, one, speed in known]),
        ("Clock, MHz", ranges(lambda block: block.mhz, 0)),
        ("Load of the last minute", ranges(lambda block: block.load, 2)),
        ("Fixed loop before a turn, µs", ranges(lambda block: block.spin_us)),
        ("Processor time over wall time", ranges(lambda block: block.busy, 2)),
        ("Preempted in a turn", ranges(lambda block: block.preempted, 0)),
        ("Timing adds to a query, µs", [spell(one.overhead_us) for _, one, _ in known]),
        ("Opening the model, ms", [_words(speed.load) for *_, speed in known]),
        ("Memory of a cold start, MiB", [_words(speed.cold_mib) for *_, speed in known]),
        ("Cold starts", [str(len(one.cold_ms) or NOTHING) for _, one, _ in known]),
        ("Threads for images a second", [str(one.workers or NOTHING) for _, one, _ in known]),
        ("Noise", ["; ".join(one.noise) or "none found" for _, one, _ in known]),
    ]


def _provider(side: Side) -> str:
    one = side.candidate
    if not one.device:
        return "nothing ran"
    part = "" if one.share >= 1 else f", {100 * one.share:.0f} % of the heavy operations"
    return one.provider.removesuffix("ExecutionProvider") + part


def _range(values: Iterable[float | None], places: int | None) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    low, high = spell(min(known), places), spell(max(known), places)
    return low if low == high else f"{low}\N{EN DASH}{high}"


def _words(share: Share | None) -> str:
    made = cell(share)
    return f"{made.text} ({made.more})" if made.more else made.text
