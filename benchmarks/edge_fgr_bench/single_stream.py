"""One query after the other, timed phase by phase: MLPerf Inference's scenario *single stream*.

(Reddi et al., ISCA 2020, section III.) A query is an image file; its answer is the verdict that
``edge-fgr classify`` gives. All phases are those of ``edge_fgr``; only clocks stand between them.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from edge_fgr import image
from edge_fgr.classifier import Classifier, Prepared
from edge_fgr.contract import WHOLE
from edge_fgr.parallel import cores
from edge_fgr_bench import machine
from edge_fgr_bench.samples import PHASES, Block

__all__ = ["Stream", "overhead_us", "spin_us"]

Times = dict[str, list[int]]
"""Microseconds of each query by phase."""

_SPINS, _TRIES = 20_000, 4


class Stream:
    """Answers queries with one model, and times them.

    Args:
        classifier: what answers.
        paths: image files, at least one; queries go round them in this order.
        energy: whether energy can be asked for.
    """

    def __init__(self, classifier: Classifier, paths: Sequence[str]) -> None:
        self._classifier, self._paths = classifier, paths
        geometry = classifier.contract.geometry
        region = geometry.roi or WHOLE
        self._read = lambda path: image.read(path, geometry, roi=region)
        self._fit = lambda picture: image.fit(picture, geometry, roi=region)
        self._answer = lambda pixels: classifier.answer(Prepared(pixels, 0.0)).ms.infer
        self._next: Iterator[str] = cycle(paths)

    def warm_up(self, queries: int, seconds: float) -> None:
        """Answer at least so many queries for at least so long, untimed."""
        end, done = time.perf_counter() + seconds, 0
        while done < queries or time.perf_counter() < end:
            self.block(16)
            done += 16

    def block(self, queries: int) -> tuple[Times, Block]:
        """Time so many queries.

        Raises:
            EdgeFgrError: an image could not be read, or inference failed.
        """
        spin, meter = spin_us(), machine.rapl()
        switched, cpu, start = _preempted(), time.process_time(), time.perf_counter()
        times = _timed(self._read, self._fit, self._answer, self._next, queries)
        wall, busy = time.perf_counter() - start, time.process_time() - cpu
        block = Block(
            queries=queries,
            seconds=round(wall, 6),
            spin_us=round(spin, 1),
            busy=round(busy / wall, 4),
            preempted=_preempted() - switched,
            load=machine.load(),
            mhz=machine.clock_mhz(_processor()),
            joules=machine.joules_between(meter, machine.rapl()),
        )
        return times, block

    def rate(self, seconds: float) -> float:
        """Return images a second with all processors, over at least so long.

        MLPerf's scenario *offline*: all queries are there at once, their order is free.
        """
        start, done = time.perf_counter(), 0
        while (took := time.perf_counter() - start) < seconds or not done:
            done += sum(1 for _ in self._classifier.classify_many(self._paths, workers=cores()))
        return done / took


def overhead_us(queries: int = 2000) -> float:
    """Return what the clocks and the bookkeeping add to a query, in microseconds, measured."""
    nothing: Callable[[Any], Any] = lambda _: 0.0  # noqa: E731
    names = cycle([""])
    _timed(nothing, nothing, nothing, names, queries)
    start = time.perf_counter()
    _timed(nothing, nothing, nothing, names, queries)
    return (time.perf_counter() - start) / queries * 1e6


def spin_us() -> float:
    """Return how long a fixed loop takes: what changes it changes everything else, too.

    The fastest of a few: the first ones wake the processor up.
    """
    found = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        for _ in range(_SPINS):
            pass
        found.append(time.perf_counter() - start)
    return min(found) * 1e6


def _timed(
    read: Callable[[Any], Any],
    fit: Callable[[Any], Any],
    answer: Callable[[Any], float],
    names: Iterator[str],
    queries: int,
) -> Times:
    clock, rows = time.perf_counter_ns, [array("q") for _ in PHASES]
    decode, preprocess, inference, decide, whole = rows
    for _ in range(queries):
        name = next(names)
        start = clock()
        picture = read(name)
        opened = clock()
        pixels = fit(picture)
        fitted = clock()
        inferred = int(answer(pixels) * 1e6)
        end = clock()
        decode.append(opened - start)
        preprocess.append(fitted - opened)
        inference.append(inferred)
        decide.append(end - fitted - inferred)
        whole.append(end - start)
    return {
        phase: [(value + 500) // 1000 for value in row]
        for phase, row in zip(PHASES, rows, strict=True)
    }


def _preempted() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _processor() -> int:
    try:
        return max(os.sched_getaffinity(0))
    except AttributeError:
        return 0
