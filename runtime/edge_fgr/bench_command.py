"""``edge-fgr bench`` and ``bench-report``: their arguments; the work is in ``edge_fgr_bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_fgr.extras import heavy

__all__ = ["add_to", "bench", "bench_report"]

Html = Annotated[Path | None, typer.Option(help="Write the report, one HTML file (extra: bench).")]
Markdown = Annotated[Path | None, typer.Option(help="Write the report as Markdown.")]
Gate = Annotated[
    Path | None, typer.Option(help="Limits, TOML; exit code 1 and a line for each broken one.")
]
Title = Annotated[str, typer.Option(help="Of the report.")]
Form = Annotated[str, typer.Option("--format", help="table or json.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(bench)
    app.command()(bench_report)


def bench(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... IMAGES", help="Files or embedded models; last, a folder of images."
        ),
    ],
    device: Annotated[
        list[str] | None,
        typer.Option(help="What runs the models (default: cpu); may be repeated."),
    ] = None,
    device_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the device's provider; may be repeated.")
    ] = None,
    parts: Annotated[
        str,
        typer.Option(
            help="latency, accuracy, robustness with commas, or all (default: latency, and "
            "accuracy where the extra bench is installed)."
        ),
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Inside one inference.")] = 1,
    queries: Annotated[int, typer.Option(min=1, help="Timed for each candidate, at least.")] = 1024,
    seconds: Annotated[float, typer.Option(min=0, help="And for so long, at least.")] = 10.0,
    cold_runs: Annotated[int, typer.Option(min=0, help="Whole processes for each.")] = 10,
    corruption_images: Annotated[
        int, typer.Option(min=1, help="Images for each corruption and severity.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of corruptions and of the order.")] = 0,
    split: Annotated[
        list[str] | None, typer.Option(help="Of labelled data, only this split; may be repeated.")
    ] = None,
    title: Title = "",
    note: Annotated[str, typer.Option(help="Words for the report's reader.")] = "",
    gate: Gate = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all samples and answers; kept up to date on the way.")
    ] = None,
    html: Html = None,
    markdown: Markdown = None,
    form: Form = "table",
) -> None:
    """Measure models on images: how fast, how accurate, how robust; write a report to hand over."""
    from edge_fgr.providers import parse_options

    command = heavy("bench", "command")
    asked = command.Asked(
        arguments=tuple(arguments),
        devices=tuple(device or ("cpu",)),
        options=parse_options(device_option or []),
        parts=parts,
        threads=threads,
        queries=queries,
        seconds=seconds,
        cold_runs=cold_runs,
        corruption_images=corruption_images,
        seed=seed,
        splits=tuple(split or ()),
        gate=gate,
        title=title,
        note=note,
    )
    command.run(asked, command.Outputs(json, html, markdown, form))


def bench_report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN.json...", help="What bench --json wrote.")
    ],
    title: Title = "",
    html: Html = None,
    markdown: Markdown = None,
    gate: Gate = None,
    form: Form = "table",
) -> None:
    """Show several runs, such as of several devices, side by side in one report."""
    command = heavy("bench", "command")
    command.report(runs, command.Outputs(None, html, markdown, form), gate, title)
