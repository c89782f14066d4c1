"""Samples to figures, each with its 95 % interval. numpy alone: a device can compute them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_fgr_bench.answers import Share
from edge_fgr_bench.samples import PHASES, Latency

__all__ = ["Speed", "energy", "percentile", "speed_of", "wilson"]

_Z = 1.959964
"""Standard deviations of a normal distribution that hold 95 %."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Figures of one candidate; None where nothing was measured.

    Attributes:
        p50, p90, p99: of a query by phase, in milliseconds.
        queries: how many.
        cold: whole process, median, in milliseconds.
        cold_mib: its peak memory, median.
        load: opening the model, median, in milliseconds.
        rate: images a second with all processors, median of the repetitions and their extremes.
        peak_mib: of the process that answered all queries.
        joules: of one query, the whole package.
    """

    p50: dict[str, Share]
    p90: dict[str, Share]
    p99: dict[str, Share]
    queries: int
    cold: Share | None
    cold_mib: Share | None
    load: Share | None
    rate: Share | None
    peak_mib: float | None
    joules: float | None


def percentile(samples: Sequence[float], share: float, scale: float = 1.0) -> Share:
    """Return a percentile of at least one sample.

    The interval is that of the order statistics around it (Conover, Practical Nonparametric
    Statistics, section 3.2), which asks nothing of the distribution. It takes samples for
    independent, which neighbours in time hardly are: see how runs differ, too.

    Args:
        samples: in any order.
        share: 0 to 1.
        scale: each is multiplied by this.
    """
    ordered = np.sort(np.asarray(samples, np.float64)) * scale
    count = len(ordered)
    middle, half = count * share, _Z * math.sqrt(count * share * (1 - share))
    low = min(max(math.floor(middle - half) - 1, 0), count - 1)
    high = min(max(math.ceil(middle + half), 0), count - 1)
    value = float(np.quantile(ordered, share))
    return Share(value, min(value, float(ordered[low])), max(value, float(ordered[high])))


def wilson(hits: int, total: int) -> Share:
    """Return a share of at least one with its interval (Wilson 1927)."""
    share, weight = hits / total, _Z * _Z / total
    centre = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return Share(share, max(0.0, centre - half), min(1.0, centre + half))


def speed_of(latency: Latency) -> Speed:
    """Return the figures of one candidate."""
    us = {phase: latency.us[phase] for phase in PHASES if latency.us and latency.us.get(phase)}
    p50, p90, p99 = (
        {phase: percentile(samples, q, 1e-3) for phase, samples in us.items()}
        for q in (0.5, 0.9, 0.99)
    )
    rate = latency.images_per_s
    return Speed(
        p50=p50,
        p90=p90,
        p99=p99,
        queries=len(us.get("whole", ())),
        cold=_median(latency.cold_ms),
        cold_mib=_median(latency.cold_kib, 1 / 1024),
        load=_median(latency.load_ms),
        rate=Share(float(np.median(rate)), min(rate), max(rate)) if rate else None,
        peak_mib=latency.peak_kib / 1024 if latency.peak_kib else None,
        joules=energy(latency),
    )


def energy(latency: Latency) -> float | None:
    """Return the joules of one query, over all blocks; None where they could not be read."""
    known = [block for block in latency.blocks if block.joules is not None]
    queries = sum(block.queries for block in known)
    return sum(block.joules or 0.0 for block in known) / queries if queries else None


def _median(samples: Sequence[float], scale: float = 1.0) -> Share | None:
    return percentile(samples, 0.5, scale) if samples else None
