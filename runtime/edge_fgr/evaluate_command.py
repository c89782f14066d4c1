"""``edge-fgr evaluate``: its arguments; the work is in ``edge_fgr_export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_fgr.extras import heavy

__all__ = ["add_to", "evaluate"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A .onnx file, an embedded model's name or a run's folder."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...", help="Folders of class folders, a .csv index or NAME:FOLDER."
        ),
    ],
    split: Annotated[
        list[str] | None, typer.Option(help="Of the data, only this split; may be repeated.")
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS", help="A positive class of a two-sided decision; may be repeated."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="With --positive: also decide by this probability of them all."),
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="The class that a line accepts: choose its threshold."),
    ] = None,
    max_false_reject: Annotated[
        float | None,
        typer.Option(
            help="With --accept: most of its images that may be rejected.  [default: 0.05]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="With --accept: write the model with this operating point."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with plots and pictures, HTML.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Judge a model on labelled photographs, each figure with its 95 % interval (extra: export)."""
    command = heavy("export", "evaluate_command")
    command.run(
        model,
        data,
        splits=split or (),
        asked=command.Asked(tuple(positive or ()), threshold, accept, max_false_reject),
        outputs=command.Outputs(json, page, output),
        device=device,
        form=form,
    )
