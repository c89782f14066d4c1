"""``edge-fgr doctor``: its arguments and its two ways to say what was found."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edge_fgr.errors import UsageError

if TYPE_CHECKING:
    from edge_fgr.doctor import Report

__all__ = ["add_to", "doctor", "report_json", "report_lines"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(doctor)


def doctor(
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="What to try (default: the embedded one).")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Say what works here and what needs care; exit code 1 if anything does."""
    from edge_fgr.doctor import diagnose

    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    report = diagnose(model)
    sys.stdout.write(report_json(report) if form == "json" else report_lines(report))
    if not report.well:
        raise typer.Exit(1)


def report_json(report: Report) -> str:
    """Return the report as one JSON document, documented in docs/devices.md."""
    import json

    facts = asdict(report)
    facts["limits"]["usable"] = report.limits.usable
    status = "ok" if report.well else "care"
    return json.dumps({"schema_version": 1, "status": status, **facts}, indent=2) + "\n"


def report_lines(report: Report) -> str:
    """Return the report as text: versions, then a finding a line."""
    names = ("edge-fgr", "onnxruntime", "numpy", "pillow", "python")
    versions = report.versions
    lines = [
        ", ".join(f"{name} {versions[name]}" for name in names if name in versions),
        versions.get("build", ""),
        versions["system"],
        "",
    ]
    for finding in report.findings:
        lines.append(f"{finding.level:4}  {finding.topic:11}  {finding.text}")
        if finding.todo:
            lines.append(f"      {'':11}  to do: {finding.todo}")
    if report.absent:
        lines.append(f"{'-':4}  {'device':11}  not in this onnxruntime: {', '.join(report.absent)}")
    return "\n".join(lines) + "\n"
