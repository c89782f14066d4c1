"""Which ranks live: each counts up in the launcher's store, and says there why it ends.

When a process is killed the others learn only that a connection closed, and each of them may see
another one close first. What the store holds tells who began: a rank that ends on purpose leaves
word before, one that neither left word nor counts is dead. The thread also finds ranks that hang
where no connection closes: a machine without power, a GPU that waits for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

__all__ = ["Heartbeat"]

_EVERY = 0.5
_SILENT = 20.0
"""Seconds without a beat after which a rank is dead; torchrun kills the others 30 after a death."""

_PATIENCE = 3.0
"""Seconds that a rank has for its next beat when somebody asks."""

Lost = Callable[["Heartbeat"], None]


class Heartbeat:
    """A thread that beats for this rank and listens to the others.

    Args:
        store: that all ranks see; it is used under names of its own.
        rank: this one.
        world: how many there are.
        lost: called by the thread, once, when a rank was silent for too long.
        every: seconds between beats.
        silent: seconds that are too long.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world: int,
        lost: Lost,
        *,
        every: float = _EVERY,
        silent: float = _SILENT,
    ) -> None:
        self._store, self._rank, self._lost = store, rank, lost
        self._others = [other for other in range(world) if other != rank]
        self._every, self._silent = every, silent
        self._over = threading.Event()
        # A connection of its own: the thread must not wait while another one waits for an answer.
        self._thread = threading.Thread(target=self._run, args=(store.clone(),), daemon=True)
        self._thread.start()

    def leave(self, word: str) -> None:
        """Stop beating, and say why."""
        with suppress(RuntimeError):  # who kept the store may be gone
            self._store.set(f"word/{self._rank}", word)
        self._over.set()
        self._thread.join(self._every)

    def word(self, rank: int, patience: float = 0.0) -> str | None:
        """Return what a rank said when it ended; None while it did not, for so many seconds."""
        end = time.monotonic() + patience
        while True:
            try:
                if self._store.check([f"word/{rank}"]):
                    word: bytes = self._store.get(f"word/{rank}")
                    return word.decode()
            except RuntimeError:
                return None
            if time.monotonic() >= end:
                return None
            time.sleep(self._every / 10)

    def words(self) -> dict[int, str]:
        """Return what those of the others said that have ended."""
        found = {rank: self.word(rank) for rank in self._others}
        return {rank: word for rank, word in found.items() if word is not None}

    def dead(self, patience: float = _PATIENCE) -> list[int]:
        """Return the ranks that ended without a word: they have so many seconds for a beat.

        Without the store nobody can be asked; it is kept by rank 0 or beside it.
        """
        end = time.monotonic() + patience
        try:
            before = {rank: _beats(self._store, rank) for rank in self._others}
            waiting = list(self._others)
            while waiting and time.monotonic() < end:
                time.sleep(self._every / 10)
                waiting = [
                    rank
                    for rank in waiting
                    if _beats(self._store, rank) == before[rank]
                    and not self._store.check([f"word/{rank}"])
                ]
        except RuntimeError:
            return [0] if self._rank else []
        return waiting

    def _run(self, store: Store) -> None:
        heard = dict.fromkeys(self._others, (0, time.monotonic()))
        try:
            while not self._over.wait(self._every):
                store.add(f"beat/{self._rank}", 1)
                for rank, (beats, since) in heard.items():
                    if (now := _beats(store, rank)) != beats or store.check([f"word/{rank}"]):
                        heard[rank] = (now, time.monotonic())
                    elif time.monotonic() - since > self._silent:
                        self._lost(self)
                        return
        except RuntimeError:
            if not self._over.is_set():
                self._lost(self)


def _beats(store: Store, rank: int) -> int:
    return int(store.add(f"beat/{rank}", 0))
