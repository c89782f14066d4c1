"""What activations look like on image files, with memory that does not grow with their number.

Two passes over the images: extremes and moments, then a histogram per group of tensors. Each method
of ``range_methods`` chooses a range on the range images; for each group that one is taken whose
range costs least on other images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from edge_fgr.contract import Geometry
from edge_fgr.errors import InputMissingError
from edge_fgr.progress import progress
from edge_fgr_export.moments import Kernel, Moments, Peaks
from edge_fgr_export.range_methods import METHODS, Histogram, Range, cost, ranges_by_method
from edge_fgr_train.batches import batches
from edge_fgr_train.tiles import cut

__all__ = ["Kernel", "Range", "Statistics", "collect", "watching"]

Doubles = npt.NDArray[np.float64]

_BATCH = 4
"""Images at a time: every tensor of these is in memory at once."""

_BINS = 2048
_SAMPLES = 200_000
"""Values of a tensor and batch that go into the histogram, evenly spaced; extremes see all."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was seen.

    Attributes:
        ranges: of each group of tensors.
        means: of each tensor per channel, ``(C,)``; of rows ``(N, D)`` per element, ``(D,)``.
        covariances: of what each kernel sees, ``(G, K, K)`` over (kh, kw, channel) of each group.
        reaches: of the tensors asked for: how far each channel goes in an image, ``(C,)``.
        offered: for each group, the range of each method.
        costs: for each group, what each of them costs on held-out images.
    """

    ranges: Mapping[str, Range]
    means: Mapping[str, Doubles]
    covariances: Mapping[Kernel, Doubles]
    reaches: Mapping[str, Doubles] = field(default_factory=dict)
    offered: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def by(self, method: str) -> Statistics:
        """Return the same with the ranges of one method; ``auto`` is the best for each group."""
        if method == "auto":
            chosen = {g: min(METHODS, key=self.costs[g].__getitem__) for g in self.offered}
        else:
            chosen = dict.fromkeys(self.offered, method)
        return replace(self, ranges={g: self.offered[g][name] for g, name in chosen.items()})


def collect(
    model: onnx.ModelProto,
    groups: Mapping[str, str],
    paths: Sequence[Path],
    geometry: Geometry,
    kernels: Sequence[Kernel] = (),
    held: Sequence[Path] = (),
    reaching: Sequence[str] = (),
    tiles: int = 1,
) -> Statistics:
    """Watch the tensors of the fp32 graph over image files.

    Args:
        model: the fp32 graph.
        groups: group of each tensor to watch; tensors of one group share a range.
        paths: image files, read through ``edge_fgr.image``.
        geometry: the model's rules from file to pixels.
        kernels: those whose covariances are wanted.
        held: images that methods are compared on; by default ``paths``.
        reaching: tensors whose channels' reaches are wanted.
        tiles: along each side, that pictures are cut into for a graph of one tile.

    Raises:
        InputMissingError: no image.
    """
    if not paths:
        raise InputMissingError("no images to take ranges from; give a run with images")
    weighed = [n.input[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    names = list(dict.fromkeys([*groups, *weighed]))
    moments: dict[str, list[tuple[Kernel, Moments]]] = defaultdict(list)
    for kernel in kernels:
        moments[kernel.tensor].append((kernel, Moments(kernel)))
    peaks = {name: Peaks() for name in reaching}
    sums: dict[str, Doubles] = {}
    inside, outside = _Extremes(groups), _Extremes(groups)
    session = watching(model, names)
    with progress(2 * (len(paths) + len(held)) * tiles**2, "ranges") as advance:
        for pixels in _tiles(paths, geometry, tiles):
            for name, values in zip(names, session.run(names, {"pixels": pixels}), strict=True):
                sums[name] = sums.get(name, 0.0) + _channels(values).sum(axis=0)
                for _, found in moments[name]:
                    found.add(values)
                if name in peaks:
                    peaks[name].add(values)
                inside.add(name, values)
            advance(len(pixels), "")
        watched = list(groups)
        for pixels in _tiles(held, geometry, tiles):
            for name, values in zip(watched, session.run(watched, {"pixels": pixels}), strict=True):
                outside.add(name, values)
            advance(len(pixels), "")
        low = {g: min(inside.low[g], outside.low[g]) for g in inside.low}
        high = {g: max(inside.high[g], outside.high[g]) for g in inside.high}
        counted = []
        for files in (paths, held):
            counts = {group: np.zeros(_BINS) for group in low}
            for pixels in _tiles(files, geometry, tiles):
                for name, values in zip(
                    watched, session.run(watched, {"pixels": pixels}), strict=True
                ):
                    group = groups[name]
                    sparse = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
                    counts[group] += np.histogram(sparse, _BINS, (low[group], high[group]))[0]
                advance(len(pixels), "")
            counted.append({g: Histogram(n, low[g], high[g]) for g, n in counts.items()})
    seen, judged = counted[0], counted[1] if held else counted[0]
    offered = {g: ranges_by_method(seen[g], inside.low[g], inside.high[g]) for g in seen}
    costs = {g: {m: cost(judged[g], r) for m, r in offered[g].items()} for g in offered}
    return Statistics(
        ranges={},
        means={name: total / (len(paths) * tiles**2) for name, total in sums.items()},
        covariances={k: found.covariance() for both in moments.values() for k, found in both},
        reaches={name: found.reach() for name, found in peaks.items()},
        offered=offered,
        costs=costs,
    ).by("auto")


def _tiles(
    paths: Sequence[Path], geometry: Geometry, tiles: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield what goes through the graph at a time."""
    for pixels in batches(paths, geometry, _BATCH):
        yield pixels if tiles == 1 else cut(torch.from_numpy(pixels), tiles).numpy()


class _Extremes:
    """Lowest and highest values of groups of tensors; 0 is always among them."""

    def __init__(self, groups: Mapping[str, str]) -> None:
        self._groups = groups
        self.low: dict[str, float] = dict.fromkeys(groups.values(), 0.0)
        self.high: dict[str, float] = dict.fromkeys(groups.values(), 0.0)

    def add(self, name: str, values: npt.NDArray[np.float32]) -> None:
        if name in self._groups:
            group = self._groups[name]
            self.low[group] = min(self.low[group], float(values.min()))
            self.high[group] = max(self.high[group], float(values.max()))


def _channels(values: npt.NDArray[np.float32]) -> Doubles:
    """Return the mean over positions of ``(N, C, h, w)``, and rows ``(N, D)`` as they are."""
    means: Doubles = values.mean(axis=tuple(range(2, values.ndim)), dtype=float)
    return means


def watching(model: onnx.ModelProto, names: Sequence[str]) -> ort.InferenceSession:
    """Open the graph on the CPU with more outputs."""
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
