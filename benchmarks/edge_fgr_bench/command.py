"""``edge-fgr bench`` and ``bench-report``: reached by name from the command line of the runtime."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from edge_fgr.errors import EdgeFgrError, MissingExtraError, UnavailableError, UsageError
from edge_fgr.files import atomic_write, check_outputs
from edge_fgr.progress import say
from edge_fgr_bench.answer_tables import accuracy_tables
from edge_fgr_bench.bench_images import find_images
from edge_fgr_bench.bench_run import STREAM, Run
from edge_fgr_bench.candidates import plans_of
from edge_fgr_bench.document import Document, Part, Settings, read_document
from edge_fgr_bench.figures import figures_of
from edge_fgr_bench.gates import Gates, Outcome, judge_gates, read_gates
from edge_fgr_bench.markdown import to_markdown
from edge_fgr_bench.plain_text import to_text
from edge_fgr_bench.report_values import sides_of, warnings_of
from edge_fgr_bench.speed_tables import latency_tables, summary_table

__all__ = ["Asked", "Outputs", "report", "run"]

_PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which files are written, and what is printed: ``table`` or ``json``."""

    json: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    form: str = "table"

    def check(self, inputs: Sequence[str]) -> None:
        """Raise an error if they cannot be meant, or need what is not installed."""
        if self.form not in ("table", "json"):
            raise UsageError(f"--format {self.form}: is none of table, json")
        check_outputs((self.json, self.html, self.markdown), inputs)
        if self.html:
            _import("report", "--html")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says.

    Attributes:
        arguments: models, then the images.
        devices: as ``edge_fgr.sessions.open_session`` takes them.
        options: of the device's provider.
        parts: names of parts with commas, ``all``, or empty: latency, and accuracy where its extra
            is installed.
        threads, queries, seconds, cold_runs, corruption_images, seed, splits: see ``Settings``.
        gate: file of limits.
        title: of the report; empty: made from the names of the models.
        note: for its reader.
    """

    arguments: Sequence[str]
    devices: Sequence[str] = ("cpu",)
    options: Mapping[str, str] = field(default_factory=dict)
    parts: str = ""
    threads: int = 1
    queries: int = 1024
    seconds: float = 10.0
    cold_runs: int = 10
    corruption_images: int = 200
    seed: int = 0
    splits: Sequence[str] = ()
    gate: Path | None = None
    title: str = ""
    note: str = ""


def run(asked: Asked, outputs: Outputs) -> None:
    """Measure, print, write, judge.

    Raises:
        UsageError: something cannot be meant; nothing was measured.
        EdgeFgrError: a limit is broken (exit code 1), after everything was written.
        UnavailableError: a candidate failed in the middle; the others were measured and written.
    """
    if len(asked.arguments) < 2:
        raise UsageError("bench needs at least one model and then the images: MODEL... IMAGES")
    if not isfinite(asked.seconds):
        raise UsageError(f"--seconds {asked.seconds}: a number of seconds is needed")
    *models, source = asked.arguments
    gates = _gates(asked.gate)
    outputs.check([*models, source, *_files_of(asked.gate, gates)])
    parts, missing = _parts(asked.parts)
    settings = Settings(
        parts, asked.threads, asked.queries, asked.seconds, asked.cold_runs,
        asked.corruption_images, asked.seed, tuple(asked.splits),
    )  # fmt: skip
    plans = plans_of(models, asked.devices, asked.options)
    pool = find_images(source, asked.splits, STREAM if parts == ("latency",) else None)

    def save(document: Document) -> None:
        if outputs.json:
            atomic_write(outputs.json, document.to_json() + "\n")

    title = asked.title or _title(models, source)
    line = shlex.join(["edge-fgr", *sys.argv[1:]])
    made = Run(plans, pool, settings, title, save, missing, line, asked.note)
    if "latency" in parts:
        made.latency()
    if "accuracy" in parts or "robustness" in parts:
        made.answers(accuracy="accuracy" in parts, robustness="robustness" in parts)
    document = made.finish()
    outcomes = judge_gates(gates, document) if gates else []
    _tell([document], outcomes, outputs)
    _end([document], outcomes)


def report(files: Sequence[Path], outputs: Outputs, gate: Path | None, title: str = "") -> None:
    """Show what earlier runs found, side by side.

    Raises:
        EdgeFgrError: a document cannot be read; a limit is broken (exit code 1).
    """
    gates = _gates(gate)
    outputs.check([*map(str, files), *_files_of(gate, gates)])
    documents = [read_document(path) for path in files]
    outcomes = [
        replace(one, line=f"document {number}: {one.line}")
        for number, document in enumerate(documents, 1)
        for one in (judge_gates(gates, document) if gates else ())
    ]
    _tell(documents, outcomes, outputs, title)
    _end([], outcomes)


def _title(models: Sequence[str], source: str) -> str:
    names = dict.fromkeys(Path(model).name.removesuffix(".onnx") for model in models)
    return f"{', '.join(names)} on {'/'.join(Path(source).parts[-2:])}"


def _gates(path: Path | None) -> Gates | None:
    """Read the limits, and the baseline: what is wrong there must not show after an hour."""
    gates = read_gates(path) if path else None
    if gates and gates.baseline:
        read_document(Path(gates.baseline.file))
    return gates


def _files_of(path: Path | None, gates: Gates | None) -> list[str]:
    """Return what limits are read from: no output may take its place."""
    return [
        *([str(path)] if path else []),
        *([gates.baseline.file] if gates and gates.baseline else []),
    ]


def _parts(text: str) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Return the parts, and a sentence for one that is left out."""
    if not text:
        try:
            _import("compared", "accuracy")
        except MissingExtraError as error:
            say(f"edge-fgr: {error}; latency alone is measured")
            return ("latency",), (f"{error}",)
        return ("latency", "accuracy"), ()
    names = _PARTS if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if strange := [name for name in names if name not in _PARTS]:
        raise UsageError(f"--parts {strange[0]}: is none of {', '.join(_PARTS)}, all")
    for name, module in (("accuracy", "compared"), ("robustness", "robust")):
        if name in names:
            _import(module, name)
    return tuple(name for name in _PARTS if name in names), ()


def _import(module: str, what: str) -> None:
    """Import what an extra brings, or say which."""
    try:
        import_module(f"edge_fgr_bench.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edge_fgr"):
            raise
        raise MissingExtraError(
            f"{what}: the package {error.name} is missing; pip install 'edge-fgr[bench]'"
        ) from None


def _tell(
    documents: Sequence[Document],
    outcomes: Sequence[Outcome],
    outputs: Outputs,
    title: str = "",
) -> None:
    """Print first: what was measured must not wait for a page that cannot be written."""
    _print(documents, outcomes, outputs.form)
    sys.stdout.flush()
    if outputs.html:
        from edge_fgr_bench.report import write_report

        write_report(outputs.html, documents, outcomes, title)
    if outputs.markdown:
        atomic_write(outputs.markdown, to_markdown(documents, outcomes, title))


def _print(documents: Sequence[Document], outcomes: Sequence[Outcome], form: str) -> None:
    if form == "json":
        whole = [document.to_json() for document in documents]
        sys.stdout.write(whole[0] if len(whole) == 1 else f"[{','.join(whole)}]")
        sys.stdout.write("\n")
        return
    sides = sides_of(documents)
    tables = [summary_table(sides), *latency_tables(sides), *accuracy_tables(sides)]
    sys.stdout.write("\n".join(to_text(table) for table in tables) + "\n")
    for warned in warnings_of(documents):
        sys.stdout.write(f"{warned.word}: {warned.line}\n")
    for outcome in outcomes:
        sys.stdout.write(f"{'kept' if outcome.kept else 'BROKEN'}: {outcome.line}\n")
    summary = {
        "schema_version": 1,
        "kind": "edge-fgr bench summary",
        "figures": [
            {"file": c.file, "name": c.name, "device": c.device, **figures_of(document, c.key)}
            for document in documents
            for c in document.candidates
        ],
        "broken": [one.line for one in outcomes if not one.kept],
        "missing": [line for document in documents for line in document.missing],
    }
    sys.stdout.write(json.dumps(summary) + "\n")


def _end(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> None:
    """Raise what the exit code must tell."""
    if broken := [one for one in outcomes if not one.kept]:
        for one in broken:
            say(f"gate broken: {one.line}")
        raise EdgeFgrError(f"{len(broken)} of {len(outcomes)} limits are broken")
    for document in documents:
        judged = document.accuracy.judged if document.accuracy else ()
        answers: list[Any] = [*document.latency, *judged]
        failed = [one for one in answers if one.error]
        if failed:
            raise UnavailableError(
                f"{failed[0].key} failed in the middle ({failed[0].error}); "
                "what was measured before, and all others, stand in the outputs"
            )
