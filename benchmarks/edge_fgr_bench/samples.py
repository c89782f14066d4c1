"""How fast a candidate is: raw samples of a run of ``edge-fgr bench``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PHASES", "Block", "Latency"]

PHASES = ("decode", "preprocess", "inference", "decide", "whole")
"""Of one query: file to picture, picture to pixels, pixels to logits, logits to verdict, all."""


@dataclass(frozen=True, slots=True)
class Block:
    """A turn of one candidate, and what the machine did meanwhile.

    Attributes:
        queries: how many were timed.
        seconds: how long it took.
        spin_us: how long a fixed loop took right before, in microseconds.
        busy: processor time of the process over wall time; 1 is undisturbed on one thread.
        preempted: how often the system took the processor away.
        load: of the last minute, as the system counts it; None where it does not.
        mhz: clock of the processor that ran it; None where it cannot be read.
        joules: energy of the whole package (RAPL); None where it cannot be read.
    """

    queries: int
    seconds: float
    spin_us: float
    busy: float
    preempted: int
    load: float | None
    mhz: float | None
    joules: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """How fast one candidate is.

    Attributes:
        key: of the candidate.
        cold_ms, cold_kib: wall time and peak memory of whole processes that classify one image.
        load_ms: opening the model in a process that has everything imported.
        us: by phase (``PHASES``), microseconds of each query, in order.
        blocks: the turns that these are from.
        pinned: processors that the timed process was bound to; empty: not bound.
        workers: threads of the run that fills all processors.
        images_per_s: of each repetition of that run.
        peak_kib: peak memory of the process that answered all queries.
        overhead_us: what timing adds to a query, measured.
        noise: why the figures should not be trusted, a sentence each; empty where they can be.
        error: why it ended early; what was measured before stands above.
    """

    key: str
    cold_ms: tuple[float, ...] = ()
    cold_kib: tuple[int, ...] = ()
    load_ms: tuple[float, ...] = ()
    us: Mapping[str, tuple[int, ...]] | None = None
    blocks: tuple[Block, ...] = ()
    pinned: tuple[int, ...] = ()
    workers: int = 0
    images_per_s: tuple[float, ...] = ()
    peak_kib: int = 0
    overhead_us: float = 0.0
    noise: tuple[str, ...] = ()
    error: str | None = None
