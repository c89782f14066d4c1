"""Progress of long work on stderr: a bar with an ETA on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Advance", "one_line", "progress", "say"]

Advance = Callable[[int, str], None]
"""``advance(steps, note)``: so many steps are done; the note stands behind the bar."""

_QUIET_SECONDS = 30.0


def say(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def one_line(message: object) -> str:
    """One line without control characters: names of files may hold a terminal's commands."""
    line = " ".join(str(message).split())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


@contextmanager
def progress(total: int, label: str, *, show: bool = True) -> Iterator[Advance]:
    """Show how far ``total`` steps are. Elsewhere than on a terminal: a line every 30 seconds."""
    if not show or not total:
        yield lambda _steps, _note: None
    elif sys.stderr.isatty():
        import typer

        note = ""
        bar: Any
        with typer.progressbar(
            length=total, label=label, file=sys.stderr, show_pos=True, item_show_func=lambda _: note
        ) as bar:

            def advance(steps: int, text: str) -> None:
                nonlocal note
                note = text
                bar.update(steps)

            yield advance
    else:
        yield _quiet(total, label)


def _quiet(total: int, label: str) -> Advance:
    start = last = time.monotonic()
    done = 0

    def advance(steps: int, note: str) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= _QUIET_SECONDS:
            last = now
            left = (now - start) / done * (total - done)
            say(f"{label}: {done} of {total}, about {left:.0f} s left {note}".rstrip())

    return advance
