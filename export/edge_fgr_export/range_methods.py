"""From a histogram to the range that 8 bits stand for: four methods, and what each would cost.

Every range holds 0, so that padding and ReLU have a code of their own.

- ``min-max``: what was seen.
- ``percentile``: 1 in 10,000 values is cut off at each end.
- ``entropy``: the range whose codes tell least falsely how often values occur (least
  Kullback-Leibler divergence: Migacz 2017, "8-bit Inference with TensorRT").
- ``mse``: the least expected squared error of rounding and clipping (as Banner et al. 2019,
  section 3, argue; measured here instead of fitted to a distribution).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["METHODS", "Histogram", "Range", "cost", "least_error", "ranges_by_method"]

Doubles = npt.NDArray[np.float64]

Range = tuple[float, float]
"""The lowest and highest value that 8 bits stand for; it holds 0."""

_LEVELS = 255
_SHARES = np.linspace(1.0, 0.3, 71)
_CUT = 1e-4
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values occur.

    Attributes:
        counts: ``(bins,)``, of equal width from ``low`` to ``high``.
        low, high: where bins begin and end.
    """

    counts: Doubles
    low: float
    high: float

    @property
    def centres(self) -> Doubles:
        """The middle of each bin, ``(bins,)``."""
        bins = len(self.counts)
        result: Doubles = self.low + (np.arange(bins) + 0.5) * (self.high - self.low) / bins
        return result


def ranges_by_method(seen: Histogram, low: float, high: float) -> dict[str, Range]:
    """Return the range that each method chooses.

    Args:
        seen: values on range images; its bins may reach further than these do.
        low: lowest of these values, 0 included.
        high: highest of them.
    """
    if high <= low:
        return dict.fromkeys(METHODS, (0.0, max(high, _TINY)))
    return {name: method(seen, low, high) for name, method in METHODS.items()}


def cost(found: Histogram, chosen: Range) -> float:
    """Return the expected squared error of clipping and rounding to ``chosen``."""
    low, high = chosen
    total = found.counts.sum()
    if not total:
        return 0.0
    cut = found.centres - np.clip(found.centres, low, high)
    rounding = ((high - low) / _LEVELS) ** 2 / 12
    error = (found.counts * cut**2).sum() + rounding * found.counts[cut == 0].sum()
    return float(error / total)


def least_error(seen: Histogram, low: float, high: float) -> Range:
    """Return the share of ``low`` to ``high`` that costs least."""
    return min(_shares(low, high), key=lambda chosen: cost(seen, chosen))


def _min_max(_: Histogram, low: float, high: float) -> Range:
    return low, high


def _percentile(seen: Histogram, low: float, high: float) -> Range:
    summed = np.cumsum(seen.counts) / max(float(seen.counts.sum()), 1.0)
    edges = np.linspace(seen.low, seen.high, len(seen.counts) + 1)
    first = edges[int(np.searchsorted(summed, _CUT))]
    last = edges[min(int(np.searchsorted(summed, 1 - _CUT)) + 1, len(edges) - 1)]
    bottom, top = max(low, min(0.0, float(first))), min(high, max(0.0, float(last)))
    return (bottom, top) if top > bottom else (low, high)


def _entropy(seen: Histogram, low: float, high: float) -> Range:
    # A spike at 0, which padding and ReLU make, has a code of its own and says nothing of the rest.
    counts, zero = seen.counts.copy(), int(np.abs(seen.centres).argmin())
    counts[zero] = counts[max(zero - 1, 0) : zero + 2].min()
    seen = Histogram(counts, seen.low, seen.high)
    return min(_shares(low, high), key=lambda chosen: _divergence(seen, chosen))


def _divergence(seen: Histogram, chosen: Range) -> float:
    """Kullback-Leibler divergence of codes, read as equally likely values each, from what is."""
    low, high = chosen
    inside = (seen.centres >= low) & (seen.centres <= high)
    counts = seen.counts[inside].copy()
    if not counts.size or not counts.sum():
        return float("inf")
    counts[0] += seen.counts[seen.centres < low].sum()
    counts[-1] += seen.counts[seen.centres > high].sum()
    codes = ((seen.centres[inside] - low) / (high - low) * _LEVELS + 0.5).astype(int)
    filled = seen.counts[inside] > 0
    kept = np.bincount(codes, seen.counts[inside], _LEVELS + 1)
    places = np.bincount(codes, filled, _LEVELS + 1)
    spread = np.where(filled, (kept / np.maximum(places, 1))[codes], 0)
    real = counts / counts.sum()
    told = np.maximum(spread / max(spread.sum(), 1e-12), 1e-9)
    there = real > 0
    return float((real[there] * np.log(real[there] / told[there])).sum())


def _shares(low: float, high: float) -> list[Range]:
    return [(low * float(share), high * float(share)) for share in _SHARES]


METHODS: Mapping[str, Callable[[Histogram, float, float], Range]] = {
    "mse": least_error,
    "percentile": _percentile,
    "entropy": _entropy,
    "min-max": _min_max,
}
"""By name, as on the command line; of equals the first is taken."""
