"""Raw samples of each peer, and the stages that collect them: cold, warm, folder.

Peers take turns in rounds, so that what else the machine does meets all of them alike. One that
fails says why and leaves the later rounds; what it gave before is kept.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from child import Child, last_words

from edge_fgr.errors import UnavailableError
from edge_fgr.progress import progress, say
from edge_fgr_bench.cold import timed

__all__ = ["Samples", "cold", "warm_and_folder"]

_WARM_UP = 2
"""Rounds of a process that stays which are not counted."""

_LIMIT_S = 600.0
"""Of the first start, seconds: it may compile."""


@dataclass(slots=True)
class Samples:
    """What one peer gave: grows while the bench runs. Round i of one is round i of all.

    Attributes:
        failed: why it gave no more; empty while all is well.
        versions: of all packages in its environment.
        install_bytes: its site-packages without pip and setuptools.
        threads: what it gives a single image.
        cold_ms, cold_kib: wall time and peak resident memory of a fresh process, by round.
        warm_ms: milliseconds of each photo, by round.
        warm_kib: peak resident memory of the process that stays, after the warm rounds.
        folder_s: seconds for the folder, by round.
        labels: number of the label of each image; None where they mean nothing.
    """

    failed: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    install_bytes: int | None = None
    threads: str = ""
    cold_ms: list[float] = field(default_factory=list)
    cold_kib: list[int] = field(default_factory=list)
    warm_ms: list[list[float]] = field(default_factory=list)
    warm_kib: int | None = None
    folder_s: list[float] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)


Found = Mapping[str, Samples]


def cold(commands: Mapping[str, Sequence[str]], found: Found, rounds: int) -> None:
    """Measure whole processes in turn; a first start of each, which may fill caches, comes before.

    Args:
        commands: by peer; those that failed are left out.
        found: is added to.
        rounds: how often each has its turn.
    """
    with progress(rounds + 1, "cold") as advance:
        for name in _well(commands, found):
            found[name].failed = _first(commands[name])
        advance(1, "")
        for _ in range(rounds):
            for name in _well(commands, found):
                try:
                    wall_s, kib = timed(commands[name])
                except subprocess.CalledProcessError as error:
                    _fail(found, name, f"a cold start ended with code {error.returncode}")
                    continue
                found[name].cold_ms.append(wall_s * 1e3)
                found[name].cold_kib.append(kib)
            advance(1, "")


def warm_and_folder(
    commands: Mapping[str, Sequence[str]],
    found: Found,
    rounds: int,
    *,
    photos: Sequence[str],
    folder: Sequence[str],
    scratch: Path,
    keep: Callable[[], None],
) -> None:
    """Measure processes that stay: one photo after the other, then the folder.

    Args:
        commands: by peer; those that failed are left out.
        found: is added to.
        rounds: how often each has its turn; two more for warming up are not counted.
        photos: what is classified one by one.
        folder: what is classified as a whole.
        scratch: for the processes' logs.
        keep: called when a stage is done.
    """
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for number, name in enumerate(_well(commands, found)):
            try:
                child = Child(commands[name], scratch / f"{number}.log")
            except UnavailableError as error:
                _fail(found, name, str(error))
                continue
            children[name] = stack.enter_context(child)
            found[name].threads = child.threads

        def warm(name: str, counted: bool) -> None:
            answer = children[name].ask("warm", paths=photos)
            if counted:
                found[name].warm_ms.append(answer["ms"])
                found[name].warm_kib = children[name].ask("memory")["kib"]

        def whole(name: str, counted: bool) -> None:
            answer = children[name].ask("folder", paths=folder)
            found[name].labels = answer["labels"][: len(set(folder))]
            if counted:
                found[name].folder_s.append(answer["s"])

        for label, turn in (("warm", warm), ("folder", whole)):
            _turns(label, turn, children, found, rounds)
            keep()


def _turns(
    label: str,
    turn: Callable[[str, bool], None],
    children: Mapping[str, Any],
    found: Found,
    rounds: int,
) -> None:
    """Give each a turn in every round, in an order that changes by chance."""
    random = np.random.default_rng(0)
    with progress(rounds + _WARM_UP, label) as advance:
        for number in range(rounds + _WARM_UP):
            for name in random.permutation(_well(children, found)):
                try:
                    turn(str(name), number >= _WARM_UP)
                except UnavailableError as error:
                    _fail(found, str(name), str(error))
            advance(1, "")


def _first(command: Sequence[str]) -> str:
    """Start a command; return why it failed, or nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False, errors="replace"
        )
    except OSError as error:
        return f"failed: cannot be run ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"failed: the first start took more than {_LIMIT_S:.0f} s"
    return f"failed: {last_words(done.stderr or done.stdout)}" if done.returncode else ""


def _well(names: Iterable[str], found: Found) -> list[str]:
    return [name for name in names if not found[name].failed]


def _fail(found: Found, name: str, why: str) -> None:
    found[name].failed = f"failed: {why}"
    say(f"{name}: {found[name].failed}")
