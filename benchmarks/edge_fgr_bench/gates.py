"""Limits that a run must keep: read from TOML, strictly, and judged.

    [[gate]]                 # for every candidate that the two patterns name
    model = "grocery81*"     # of its name or file; default: all
    device = "cpu"           # default: all
    max_p90_ms = 6.0
    min_top1 = 88.0          # percent
    max_drop = 0.5           # points of top-1 below the first candidate of the same classes

    [baseline]
    file = "baseline.json"   # what bench --json wrote earlier; relative to this file
    slower = 10.0            # percent that p50 and p90 of the whole path may grow
    drop = 0.5               # points that top-1 may fall

A limit on what was not measured is broken: silence is no proof.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path

from edge_fgr.contract import build
from edge_fgr.errors import ContractError, UsageError
from edge_fgr_bench.document import Candidate, Document, given_bytes, read_document
from edge_fgr_bench.figures import Figures, figures_of

__all__ = ["Baseline", "Gate", "Gates", "Outcome", "judge_gates", "read_gates"]


@dataclass(frozen=True, slots=True)
class Gate:
    """Limits for some candidates; None asks nothing.

    Attributes:
        model, device: patterns as of a shell.
        max_p50_ms, max_p90_ms, max_p99_ms: of the whole path, file to verdict.
        max_cold_ms: of a whole process, median.
        min_images_per_s: with all processors.
        max_memory_mib: peak of the process that answered all queries.
        max_size_mib: of the file.
        max_joules: of one query.
        min_top1, min_macro, min_coarse: in percent.
        max_ece: in percent.
        max_unknown: of the images, in percent.
        min_agreement: with the first candidate of the same classes, in percent.
        max_drop: of top-1 below that candidate's, in points.
        min_robust_top1: mean over all corruptions and severities, in percent.
    """

    model: str = "*"
    device: str = "*"
    max_p50_ms: float | None = None
    max_p90_ms: float | None = None
    max_p99_ms: float | None = None
    max_cold_ms: float | None = None
    min_images_per_s: float | None = None
    max_memory_mib: float | None = None
    max_size_mib: float | None = None
    max_joules: float | None = None
    min_top1: float | None = None
    min_macro: float | None = None
    min_coarse: float | None = None
    max_ece: float | None = None
    max_unknown: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None
    min_robust_top1: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run that this one is held against, candidate by candidate.

    Attributes:
        file: what ``--json`` wrote.
        slower: percent that p50 and p90 may grow.
        drop: points that top-1 may fall.
    """

    file: str
    slower: float = 10.0
    drop: float = 0.5


@dataclass(frozen=True, slots=True)
class Gates:
    """A whole file of limits."""

    gate: tuple[Gate, ...] = ()
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One limit on one candidate."""

    kept: bool
    line: str


def read_gates(path: Path) -> Gates:
    """Read a file of limits.

    Raises:
        InputMissingError, PermissionDeniedError: it is not there, or may not be read.
        UsageError: it is no TOML, has an unknown key, or asks nothing.
    """
    data = given_bytes(path, "a .toml file of limits")
    try:
        raw = tomllib.loads(data.decode())
    except ValueError as error:
        raise UsageError(f"{path}: not TOML ({error}); see docs/bench.md") from None
    try:
        gates: Gates = build(Gates, raw, "gates")
    except ContractError as error:
        raise UsageError(f"{path}: {error}") from None
    asked = [gate for gate in gates.gate if any(_limits(gate))]
    if len(asked) < len(gates.gate) or not (asked or gates.baseline):
        raise UsageError(f"{path}: a gate asks nothing; give it a limit, or take it out")
    if gates.baseline:
        file = str(path.parent / gates.baseline.file)
        return Gates(gates.gate, Baseline(file, gates.baseline.slower, gates.baseline.drop))
    return gates


def judge_gates(gates: Gates, document: Document) -> list[Outcome]:
    """Return what came of each limit, in the order of the file.

    A gate that names no candidate is broken: what it asks was not shown.

    Raises:
        EdgeFgrError: the baseline cannot be read; see ``read_document``.
    """
    figures = {key: figures_of(document, key) for key in (c.key for c in document.candidates)}
    found: list[Outcome] = []
    for gate in gates.gate:
        named = [c for c in document.candidates if _names(gate, c)]
        if not named:
            line = f"gate: model {gate.model!r} on device {gate.device!r} names no candidate"
            found.append(Outcome(False, line))
        for candidate in named:
            found += _judge(gate, candidate, figures[candidate.key])
    if gates.baseline:
        found += _against(gates.baseline, document, figures)
    return found


def _limits(gate: Gate) -> Iterator[tuple[str, float]]:
    for field in fields(gate):
        value = getattr(gate, field.name)
        if isinstance(value, float):
            yield field.name, value


def _names(gate: Gate, candidate: Candidate) -> bool:
    spoken = (candidate.name, candidate.file, Path(candidate.file).name)
    return any(fnmatchcase(one, gate.model) for one in spoken) and fnmatchcase(
        candidate.device or candidate.asked, gate.device
    )


def _judge(gate: Gate, candidate: Candidate, figures: Figures) -> Iterator[Outcome]:
    for name, limit in _limits(gate):
        kind, _, what = name.partition("_")
        value = figures.get(what)
        if value is None:
            yield Outcome(False, f"{_title(candidate)}: {name} {limit:g}: was not measured")
            continue
        kept = value <= limit + _ROUNDING if kind == "max" else value >= limit - _ROUNDING
        sign = ("<=" if kept else ">") if kind == "max" else (">=" if kept else "<")
        line = f"{_title(candidate)}: {what} {value:.4g} {sign} {limit:g} ({name})"
        yield Outcome(kept, line)


_ROUNDING = 1e-9
"""199 of 200 is not below 99.5 percent."""


def _against(
    baseline: Baseline, document: Document, figures: dict[str, Figures]
) -> Iterator[Outcome]:
    earlier = read_document(Path(baseline.file))
    for candidate in document.candidates:
        title = f"{_title(candidate)} against {baseline.file}"
        twins = [
            c for c in earlier.candidates
            if (c.name, c.target, c.asked) == (candidate.name, candidate.target, candidate.asked)
        ]  # fmt: skip
        if not twins:
            yield Outcome(False, f"{title}: holds no {candidate.target} {candidate.name} there")
            continue
        then, now = figures_of(earlier, twins[0].key), figures[candidate.key]
        found: list[Outcome] = []
        for key in ("p50_ms", "p90_ms"):
            factor = 1 + baseline.slower / 100
            found += _compare(title, key, then.get(key), now.get(key), "slower", factor=factor)
        one, two = then.get("top1"), now.get("top1")
        found += _compare(title, "top1", one, two, "drop", fall=baseline.drop)
        yield from found or [Outcome(False, f"{title}: it holds neither latency nor top-1")]


def _compare(
    title: str,
    key: str,
    then: float | None,
    now: float | None,
    word: str,
    *,
    factor: float = 0.0,
    fall: float = 0.0,
) -> Iterator[Outcome]:
    """Yield one outcome, or none where the baseline has no such figure."""
    if then is None:
        return
    if now is None:
        yield Outcome(False, f"{title}: {key} was not measured ({word})")
        return
    limit = then * factor if factor else then - fall
    kept = now <= limit + _ROUNDING if factor else now >= limit - _ROUNDING
    line = f"{title}: {key} {now:.4g}, was {then:.4g}, limit {limit:.4g} ({word})"
    yield Outcome(kept, line)


def _title(candidate: Candidate) -> str:
    return f"{candidate.key} {candidate.name} {candidate.target} on {candidate.device or 'nothing'}"
