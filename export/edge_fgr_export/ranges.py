"""What activations look like on image files, with memory that does not grow with their number.

Two passes over the images: extremes and means, then a histogram per group of tensors. From the
histogram comes the clipping range with the least expected squared error of rounding and clipping
(as Banner et al. 2019, section 3, argue; measured here instead of fitted to a distribution).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr.parallel import ordered_map
from edge_fgr.progress import progress

__all__ = ["Range", "Statistics", "batches", "collect", "least_error"]

Range = tuple[float, float]
"""The lowest and highest value that 8 bits stand for; it holds 0."""

Floats = npt.NDArray[np.float64]

_BINS = 2048
_SAMPLES = 200_000
"""Values of a tensor and batch that go into the histogram, evenly spaced; extremes see all."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """``ranges`` of each group of tensors; ``means`` per channel ``(C,)`` of each tensor."""

    ranges: Mapping[str, Range]
    means: Mapping[str, Floats]


def collect(
    model: onnx.ModelProto, groups: Mapping[str, str], paths: Sequence[Path], geometry: Geometry
) -> Statistics:
    """Watch the tensors of the fp32 graph over image files.

    Args:
        model: the fp32 graph.
        groups: group of each tensor to watch; tensors of one group share a range.
        paths: image files, read through ``edge_fgr.image``.
        geometry: the model's rules from file to pixels.
    """
    session = _watching(model, list(groups))
    low: dict[str, float] = dict.fromkeys(groups.values(), 0.0)
    high: dict[str, float] = dict.fromkeys(groups.values(), 0.0)
    counts = {group: np.zeros(_BINS) for group in low}
    sums: dict[str, Floats] = {}
    with progress(2 * len(paths), "ranges") as advance:
        for pixels in batches(paths, geometry):
            for name, values in zip(
                groups, session.run(list(groups), {"pixels": pixels}), strict=True
            ):
                group = groups[name]
                low[group] = min(low[group], float(values.min()))
                high[group] = max(high[group], float(values.max()))
                sums[name] = sums.get(name, 0.0) + values.mean(axis=(2, 3), dtype=float).sum(axis=0)
            advance(len(pixels), "")
        for pixels in batches(paths, geometry):
            for name, values in zip(
                groups, session.run(list(groups), {"pixels": pixels}), strict=True
            ):
                group = groups[name]
                span = (low[group], high[group])
                sparse = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
                counts[group] += np.histogram(sparse, _BINS, span)[0]
            advance(len(pixels), "")
    return Statistics(
        {group: least_error(counts[group], low[group], high[group]) for group in low},
        {name: total / len(paths) for name, total in sums.items()},
    )


def least_error(counts: Floats, low: float, high: float, levels: int = 255) -> Range:
    """Return the range within ``low`` to ``high`` that costs least; it always holds 0."""
    if high <= low:
        return 0.0, max(high, 1e-6)
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)
    best, best_error = (low, high), np.inf
    for share in np.linspace(1.0, 0.3, 71):
        a, b = low * share, high * share
        clipped = centres - np.clip(centres, a, b)
        rounding = ((b - a) / levels) ** 2 / 12
        error = float((counts * clipped**2).sum() + rounding * counts[clipped == 0].sum())
        if error < best_error:
            best, best_error = (a, b), error
    return float(best[0]), float(best[1])


def batches(
    paths: Sequence[Path], geometry: Geometry, size: int = 8
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield uint8 ``(n, H, W, 3)`` of the images, at most ``size`` at a time, decoded ahead."""
    waiting: list[npt.NDArray[np.uint8]] = []
    for pixels in ordered_map(lambda path: load(path, geometry), paths, 2):
        waiting.append(pixels)
        if len(waiting) == size:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _watching(model: onnx.ModelProto, names: Sequence[str]) -> ort.InferenceSession:
    """Open the graph with more outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in known
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
