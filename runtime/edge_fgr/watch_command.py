"""``edge-fgr watch``: its arguments, its signals, and where its records go."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.progress import say
from edge_fgr.signals import noted

if TYPE_CHECKING:
    from edge_fgr.contract import Geometry
    from edge_fgr.frames import Frames

__all__ = ["add_to", "watch"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(watch)


def watch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder that files drop into, a video, /dev/video0 or a stream's URL.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A .onnx file or an embedded model's name.")
    ] = None,
    device: Annotated[str, typer.Option(help="What runs it; never a silent fallback.")] = "auto",
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Classes per picture.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one inference.")] = 1,
    every: Annotated[
        float, typer.Option(min=0, help="Seconds between two pictures of a video or camera.")
    ] = 0.0,
    until: Annotated[
        str | None, typer.Option(help="End after so many pictures (100) or so long (30s, 5m, 1h).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Append the records to this file; files in it are not classified again."),
    ] = None,
    quality: Annotated[
        str,
        typer.Option(help="Frozen, black, saturated, blurred: off, report or reject."),
    ] = "reject",
    coverage: Annotated[
        float | None, typer.Option(help="Give the set of labels with this coverage, such as 0.95.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("-g", "--gallery", help="Classes that were enrolled.")
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that a file has to become whole.")
    ] = 10.0,
    retry: Annotated[
        float, typer.Option(min=0, help="Seconds that a lost camera is tried again; inf for ever.")
    ] = 30.0,
) -> None:
    """Classify what drops into a folder, a video or a camera: JSON Lines, until it is stopped."""
    import gc

    from edge_fgr.classifier import Classifier
    from edge_fgr.lines import Lines
    from edge_fgr.memory import one_arena
    from edge_fgr.records import to_line
    from edge_fgr.watch import Checks, Watch, parse_until

    if quality not in get_args(Checks):
        raise UsageError(f"--quality {quality}: is none of {', '.join(get_args(Checks))}")
    limit = parse_until(until) if until else None
    gc.enable()
    stopped = noted(signal.SIGTERM, signal.SIGINT)
    one_arena()
    classifier = Classifier.load(
        model,
        device=device,  # type: ignore[arg-type]
        threads=threads,
        coverage=coverage,
        gallery=gallery,
    )
    with ExitStack() as stack:
        lines = stack.enter_context(Lines(out)) if out else None
        done = lines.done if lines else {}
        geometry = classifier.contract.geometry
        frames = _open(source, geometry, done, every=every, grace=grace, retry=retry)
        stack.callback(frames.close)
        run = Watch(
            classifier,
            frames,
            top_k=top_k,
            quality=quality,  # type: ignore[arg-type]
            until=limit,
            stop=lambda: bool(stopped),
        )
        stack.callback(lambda: say(f"edge-fgr: {run.counts}"))
        for record in run:
            if lines:
                lines.add(record)
            else:
                sys.stdout.write(to_line(record) + "\n")
                sys.stdout.flush()
    if signal.SIGINT in stopped:
        raise KeyboardInterrupt


def _open(source: str, geometry: Geometry, done: dict[str, str | None], **how: float) -> Frames:
    from edge_fgr.camera import CameraSource, VideoSource, is_camera
    from edge_fgr.frames import FolderSource

    if is_camera(source):
        return CameraSource(source, every=how["every"], retry=how["retry"])
    path = Path(source)
    if path.is_dir():
        if how["every"]:
            raise UsageError("--every: is for videos and cameras; no file of a folder is left out")
        return FolderSource(source, geometry, done=done, grace=how["grace"], retry=how["retry"])
    if not path.exists():
        raise InputMissingError(f"{source}: no such folder, video or camera; check the path")
    return VideoSource(source, every=how["every"])
