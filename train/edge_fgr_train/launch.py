"""How a process joins a training on several, and how it leaves: with the name of who is to blame.

A launcher such as torchrun starts the processes and tells each by its environment which one it is.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import torch
from torch import distributed

from edge_fgr.errors import EdgeFgrError, RankError, UsageError
from edge_fgr.progress import one_line, say
from edge_fgr_train.heartbeat import Heartbeat
from edge_fgr_train.ranks import Ranks

__all__ = ["joined", "ranks_of"]

_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
_JOIN_SECONDS = 300
_AGREE_SECONDS = 2.0
"""That other ranks wait for the first to say the same."""

_STUCK_SECONDS = 5.0
"""After which a process whose main thread does not hear of a death is ended from beside it."""

_DONE, _STOPPED, _FOLLOWED, _FAILED = "done", "stopped", "followed", "failed: "
"""Why a rank ends, as it tells the others."""


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Return which of the processes of a training this is.

    Raises:
        UsageError: the environment says that there are several, but not where they meet.
    """
    if (text := environment.get("WORLD_SIZE") or "1") == "1":
        return Ranks()
    if absent := [name for name in _NEEDED if not environment.get(name)]:
        raise UsageError(
            f"WORLD_SIZE is {one_line(text)}, but there is no {' and no '.join(absent)}: no "
            "launcher started this; use torchrun --nproc_per_node=N -m edge_fgr_train, or unset "
            "WORLD_SIZE"
        )
    try:
        world, rank = int(text), int(environment["RANK"])
        local = int(environment.get("LOCAL_RANK", rank))
        neighbours = int(environment.get("LOCAL_WORLD_SIZE", world))
    except ValueError as error:
        raise UsageError(f"the launcher's environment: {error}") from None
    if not 0 <= rank < world or not 0 <= local < neighbours:
        raise UsageError(
            f"the launcher's environment: RANK {rank} of WORLD_SIZE {world}, LOCAL_RANK {local} of "
            f"LOCAL_WORLD_SIZE {neighbours} cannot be"
        )
    return Ranks(rank, world, local, neighbours)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Be one of the ranks while the context lasts; alone, nothing happens.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``: what the ranks shall compute on.

    Raises:
        UsageError: several processes without a launcher.
        RankError: another rank ended before all were done, or did not come; the error names it.
        SystemExit: another rank says the same, or a signal stopped this one.
    """
    ranks = ranks_of(os.environ)
    if ranks.world == 1:
        yield ranks
        return
    heartbeat = _join(ranks, device)
    try:
        yield ranks
    except BaseException as error:
        # Whoever finds out why it ends must not be stopped at that: torchrun stops all at once.
        usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            raise _ending(error, ranks, heartbeat) from None
        finally:
            signal.signal(signal.SIGTERM, usual)
    heartbeat.leave(_DONE)
    distributed.destroy_process_group()


def _join(ranks: Ranks, device: str) -> Heartbeat:
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    several = device != "cpu" and torch.cuda.is_available()
    limit = timedelta(seconds=_JOIN_SECONDS)
    try:
        store, _, _ = next(rendezvous("env://", timeout=limit))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if several else "gloo",
            store=PrefixStore("group", store),
            rank=ranks.rank,
            world_size=ranks.world,
        )
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        cause = one_line(str(error).splitlines()[0] if str(error) else error)
        raise RankError(
            f"rank {ranks.rank}: the {ranks.world} ranks did not meet at {place} ({cause}); start "
            "the same command on every machine"
        ) from None
    own = PrefixStore("ranks", store)
    return Heartbeat(own, ranks.rank, ranks.world, partial(_on_loss, ranks))


def _on_loss(ranks: Ranks, heartbeat: Heartbeat) -> None:
    """Stop this process: its main thread if that listens, else all of it."""
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(_STUCK_SECONDS)
    if isinstance(error := _blame(ranks, heartbeat), RankError):
        say(f"edge-fgr: {one_line(error)}")
    sys.stderr.flush()
    os._exit(RankError.exit_code)


def _ending(error: BaseException, ranks: Ranks, heartbeat: Heartbeat) -> BaseException:
    """Leave word for the other ranks; return what this process ends with."""
    if isinstance(error, EdgeFgrError):
        heartbeat.leave(word := f"{_FAILED}{one_line(error)}")
        if ranks.is_first:
            return error
        if heartbeat.word(0, _AGREE_SECONDS) == word:  # it has been said
            return SystemExit(error.exit_code)
        error.args = (f"rank {ranks.rank}: {error}",)
        return error
    if isinstance(error, KeyboardInterrupt):
        heartbeat.leave(_STOPPED)
        return error if ranks.is_first else SystemExit(130)
    told = isinstance(error, SystemExit)
    if told:
        heartbeat.leave(_STOPPED)
    blamed = _blame(ranks, heartbeat, told=told)
    if not told:
        heartbeat.leave(_FOLLOWED if blamed else f"{_FAILED}{one_line(error)}")
    return blamed or error


def _blame(ranks: Ranks, heartbeat: Heartbeat, *, told: bool = False) -> BaseException | None:
    """Return the error that names who ended first, or if another rank says it, an exit in silence.

    Args:
        ranks: with this one.
        heartbeat: this rank's.
        told: a signal stopped this rank: others that were stopped too are not to blame.
    """
    causes = dict.fromkeys(heartbeat.dead(), "ended without a word (killed, or out of memory)")
    words = heartbeat.words()
    if not causes:
        causes = {
            rank: f"ended ({word.removeprefix(_FAILED)})"
            for rank, word in words.items()
            if word.startswith(_FAILED)
        }
    if not causes and not told:
        causes = {rank: "was stopped" for rank, word in words.items() if word == _STOPPED}
    if not causes:
        return None
    left = [rank for rank in range(ranks.world) if rank not in causes]
    if ranks.rank != min(left, default=ranks.rank):
        return SystemExit(RankError.exit_code)
    what = "; ".join(f"rank {rank} {cause}" for rank, cause in causes.items())
    return RankError(
        f"{what}; finished epochs are kept: start again with the same command to go on"
    )
