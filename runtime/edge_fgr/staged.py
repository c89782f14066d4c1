"""Two steps for each of many items, side by side, with results in order and bounded memory.

Each thread prefers one of the two steps. Decoding and inference each fill a processor's cache with
their own data: a thread that takes turns between them starts over every time, which costs a
twentieth of both. Where the steps take unequal time, whoever has nothing to do helps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["staged_map"]

Item = TypeVar("Item")
Middle = TypeVar("Middle")
Result = TypeVar("Result")

_PATIENCE = 0.002
"""Seconds that a thread waits for its own kind of work before it does the other."""


def staged_map(
    first: Callable[[Item], Middle],
    second: Callable[[Middle], Result],
    items: Iterable[Item],
    workers: int,
) -> Iterator[Result]:
    """Yield ``second(first(item))`` in order; items are taken at most ``4 * workers`` ahead.

    An exception of either is raised where its result would have come, and one of ``items`` after
    the results before it.
    """
    if workers <= 1:
        for item in items:
            yield second(first(item))
        return
    work = _Work(first, second, iter(items), workers)
    threads = [
        threading.Thread(target=work.run, args=(i < (workers + 1) // 2,), name=f"edge-fgr-{i}")
        for i in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from work.results()
    finally:
        work.stop()
        for thread in threads:
            thread.join()


class _Work(Generic[Item, Middle, Result]):
    """What the threads share, under one lock: they wait for work, the caller for results."""

    def __init__(
        self,
        first: Callable[[Item], Middle],
        second: Callable[[Middle], Result],
        items: Iterator[Item],
        workers: int,
    ) -> None:
        self._first, self._second, self._items = first, second, items
        lock = threading.Lock()
        self._work, self._next_done = threading.Condition(lock), threading.Condition(lock)
        self._ahead, self._ready_at_most = 4 * workers, 2 * workers
        self._taken = self._given = 0
        self._running = 0  # first steps under way
        self._ended = self._stopped = False
        self._ready: deque[tuple[int, Middle]] = deque()
        self._done: dict[int, tuple[Any, BaseException | None]] = {}

    def run(self, prefers_first: bool) -> None:
        """Work until nothing is left: what a thread does."""
        while (job := self._next(prefers_first)) is not None:
            place, function, value = job
            try:
                found, error = function(value), None
            except BaseException as problem:
                found, error = None, problem
            with self._work:
                if function is self._first:
                    self._running -= 1
                if function is self._first and error is None:
                    self._ready.append((place, found))
                    self._work.notify_all()
                else:
                    self._done[place] = (found, error)
                    if place == self._given:
                        self._next_done.notify()
                if self._ended and not self._running:
                    self._work.notify_all()

    def results(self) -> Iterator[Result]:
        """Yield the results in order."""
        while True:
            with self._next_done:
                while self._given not in self._done:
                    if self._ended and self._given == self._taken:
                        return
                    self._next_done.wait()
                found, error = self._done.pop(self._given)
                self._given += 1
                if self._taken - self._given == self._ahead - 1:  # it was full
                    self._work.notify_all()
            if error is not None:
                raise error
            yield found

    def stop(self) -> None:
        """Let the threads end after what they have in hand."""
        with self._work:
            self._stopped = True
            self._work.notify_all()

    def _next(self, prefers_first: bool) -> tuple[int, Callable[[Any], Any], Any] | None:
        """Return the place of an item, a step and what it takes; None when all is done."""
        with self._work:
            patient = True
            while not self._stopped:
                if self._ready and (not prefers_first or not patient or not self._may_take()):
                    place, middle = self._ready.popleft()
                    return place, self._second, middle
                if (prefers_first or not patient) and self._may_take():
                    try:
                        item = next(self._items)
                    except BaseException as error:
                        self._ended = True
                        if not isinstance(error, StopIteration):
                            self._done[self._taken] = (None, error)
                            self._taken += 1
                        self._next_done.notify()
                        self._work.notify_all()
                        continue
                    self._taken += 1
                    self._running += 1
                    return self._taken - 1, self._first, item
                if self._ended and not self._ready and not self._running:
                    return None
                patient = self._work.wait(_PATIENCE)
            return None

    def _may_take(self) -> bool:
        return (
            not self._ended
            and self._taken - self._given < self._ahead
            and len(self._ready) + self._running < self._ready_at_most
        )
