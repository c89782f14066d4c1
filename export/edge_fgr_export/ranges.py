"""What activations look like on image files, with memory that does not grow with their number.

Two passes over the images: extremes and moments, then a histogram per group of tensors. From the
histogram comes the clipping range with the least expected squared error of rounding and clipping
(as Banner et al. 2019, section 3, argue; measured here instead of fitted to a distribution).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr.parallel import ordered_map
from edge_fgr.progress import progress

__all__ = ["Kernel", "Range", "Statistics", "batches", "collect", "least_error"]

Kernel = tuple[str, tuple[int, ...]]
"""A tensor and the size (kh, kw) of the kernel that reads it."""

Range = tuple[float, float]
"""The lowest and highest value that 8 bits stand for; it holds 0."""

Floats = npt.NDArray[np.float64]

_BINS = 2048
_SAMPLES = 200_000
"""Values of a tensor and batch that go into the histogram, evenly spaced; extremes see all."""
_POSITIONS = 512
"""Positions of a tensor and batch that go into its covariance."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was seen.

    Attributes:
        ranges: of each group of tensors.
        means: of each tensor per channel, ``(C,)``; of rows ``(N, D)`` per element, ``(D,)``.
        covariances: of what each kernel sees, ``(K, K)`` over (kh, kw, channel).
    """

    ranges: Mapping[str, Range]
    means: Mapping[str, Floats]
    covariances: Mapping[Kernel, Floats]


def collect(
    model: onnx.ModelProto,
    groups: Mapping[str, str],
    paths: Sequence[Path],
    geometry: Geometry,
    kernels: Sequence[Kernel],
) -> Statistics:
    """Watch the tensors of the fp32 graph over image files.

    Args:
        model: the fp32 graph.
        groups: group of each tensor to watch; tensors of one group share a range.
        paths: image files, read through ``edge_fgr.image``.
        geometry: the model's rules from file to pixels.
        kernels: those whose covariances are wanted.
    """
    weighed = [n.input[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    names = list(dict.fromkeys([*groups, *weighed]))
    session = _watching(model, names)
    low: dict[str, float] = dict.fromkeys(groups.values(), 0.0)
    high: dict[str, float] = dict.fromkeys(groups.values(), 0.0)
    counts = {group: np.zeros(_BINS) for group in low}
    sums: dict[str, Floats] = {}
    moments = {kernel: _Moments(kernel[1]) for kernel in kernels}
    with progress(2 * len(paths), "ranges") as advance:
        for pixels in batches(paths, geometry):
            for name, values in zip(names, session.run(names, {"pixels": pixels}), strict=True):
                sums[name] = sums.get(name, 0.0) + _channels(values).sum(axis=0)
                for (tensor, _), found in moments.items():
                    if tensor == name:
                        found.add(values)
                if name in groups:
                    group = groups[name]
                    low[group] = min(low[group], float(values.min()))
                    high[group] = max(high[group], float(values.max()))
            advance(len(pixels), "")
        watched = list(groups)
        for pixels in batches(paths, geometry):
            for name, values in zip(watched, session.run(watched, {"pixels": pixels}), strict=True):
                group = groups[name]
                sparse = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
                counts[group] += np.histogram(sparse, _BINS, (low[group], high[group]))[0]
            advance(len(pixels), "")
    return Statistics(
        {group: least_error(counts[group], low[group], high[group]) for group in low},
        {name: total / len(paths) for name, total in sums.items()},
        {kernel: found.covariance() for kernel, found in moments.items()},
    )


def _channels(values: npt.NDArray[np.float32]) -> Floats:
    """Return the mean over positions of ``(N, C, h, w)``, and rows ``(N, D)`` as they are."""
    means: Floats = values.mean(axis=tuple(range(2, values.ndim)), dtype=float)
    return means


class _Moments:
    """Running second moments of what a kernel sees at evenly spaced positions of each batch."""

    def __init__(self, kernel: tuple[int, ...]) -> None:
        self._kernel = kernel
        self._count = 0
        self._sum: Any = 0.0
        self._products: Any = 0.0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take in a tensor ``(N, C, h, w)``; one below the kernel's size is padded with zeros."""
        short = [max(0, k - side) for k, side in zip(self._kernel, values.shape[2:], strict=True)]
        if any(short):
            values = np.pad(values, [(0, 0), (0, 0), *((n // 2, n - n // 2) for n in short)])
        windows = np.lib.stride_tricks.sliding_window_view(values, self._kernel, axis=(2, 3))
        places = values.shape[0] * windows.shape[2] * windows.shape[3]
        step = max(1, round((places / _POSITIONS) ** 0.5))
        sparse = windows[:, :, ::step, ::step]  # (N, C, h', w', kh, kw)
        width = values.shape[1] * self._kernel[0] * self._kernel[1]
        rows = sparse.transpose(0, 2, 3, 4, 5, 1).reshape(-1, width)
        self._count += len(rows)
        self._sum = self._sum + rows.sum(axis=0, dtype=float)
        self._products = self._products + rows.T @ rows

    def covariance(self) -> Floats:
        """Return ``(K, K)`` over (kh, kw, channel)."""
        mean = self._sum / self._count
        result: Floats = self._products / self._count - np.outer(mean, mean)
        return result


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
