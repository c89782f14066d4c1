"""``edge-fgr enroll``, ``forget`` and ``gallery list``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_fgr.errors import UsageError
from edge_fgr.progress import say

if TYPE_CHECKING:
    from edge_fgr.gallery_store import Stored

__all__ = ["add_to", "enroll", "forget", "listing"]

Name = Annotated[
    str, typer.Argument(metavar="CLASS", help="A name, or Fruit/Apple/New: coarse to fine.")
]
File = Annotated[Path, typer.Option("-g", "--gallery", help="File of the enrolled classes.")]

_gallery = typer.Typer(
    help="Look at enrolled classes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(enroll)
    app.command()(forget)
    app.add_typer(_gallery, name="gallery")


def enroll(
    label: Name,
    photos: Annotated[list[str], typer.Argument(help="1 to 20 photos of it.")],
    gallery: File,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A .onnx file or an embedded model's name.")
    ] = None,
) -> None:
    """Learn a class from a few photos, without training; classify -g knows it then."""
    from edge_fgr import gallery as galleries
    from edge_fgr.errors import EdgeFgrError
    from edge_fgr.model import open_model
    from edge_fgr.sources import expand

    path = galleries.label_of(label)
    files = expand(photos, recursive=False)
    names = []
    for file in files:
        if isinstance(file, EdgeFgrError):
            raise file
        names.append(file)
    opened = open_model(model, device="cpu", cache=True)
    found = galleries.enroll(gallery, opened, path, names)
    say(
        f"{gallery}: {'/'.join(path)} has {_photos(len(found.photos))} now; "
        f"next: edge-fgr classify -g {gallery} …"
    )


def forget(label: Name, gallery: File) -> None:
    """Take an enrolled class out of a gallery."""
    from edge_fgr import gallery as galleries

    path = galleries.label_of(label)
    left = galleries.forget(gallery, path)
    say(f"{gallery}: {'/'.join(path)} is forgotten; {len(left.classes)} left")


@_gallery.command("list")
def listing(
    gallery: File,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Show the enrolled classes and how many photos each has."""
    from edge_fgr.gallery_store import read_store
    from edge_fgr.records import to_line

    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    facts = _facts(read_store(gallery))
    if form == "json":
        sys.stdout.write(to_line(facts) + "\n")
        return
    model = facts["model"]
    sys.stdout.write(f"model   {model['name']} version {model['version']}, {model['digest']}\n")
    for one in facts["classes"]:
        count = _photos(len(one["photos"]))
        sys.stdout.write(f"{'/'.join(one['label'])}  {count}\n")


def _facts(stored: Stored) -> dict[str, Any]:
    model = stored.model
    return {
        "schema_version": 1,
        "model": {"name": model.name, "version": model.version, "digest": model.digest},
        "classes": [
            {
                "label": list(one.label),
                "photos": [{"name": photo.name, "digest": photo.digest} for photo in one.photos],
            }
            for one in stored.classes
        ],
    }


def _photos(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
