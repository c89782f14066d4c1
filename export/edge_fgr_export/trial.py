"""A candidate graph tried on image files: how far its logits are off, and what accuracy it costs.

Two sets of images, both kept out of the ranges. On the first, which needs no labels, steps are
chosen; on the second the budget is judged, so that no step is chosen by what it is judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr.contract import Geometry
from edge_fgr_export.ranges import watching
from edge_fgr_export.tiles import Plan, tiled
from edge_fgr_export.verify import Verdict, verdict_of
from edge_fgr_train.batches import batches

__all__ = ["Bench", "Trial", "relative_error", "run_graph", "within"]

Floats = npt.NDArray[np.float32]


_WHOLE = Plan()


@dataclass(frozen=True, slots=True)
class Trial:
    """What one step came to.

    Attributes:
        name: of the step.
        error: root of the mean squared difference of the logits, in units of the spread of those of
            fp32, on the images that steps are chosen on.
        verdict: against fp32, on the images that the budget is judged on.
        kept: whether what follows builds on it.
        wide: how many layers have wider weights.
    """

    name: str
    error: float
    verdict: Verdict
    kept: bool = True
    wide: int = 0


@dataclass(frozen=True, slots=True)
class Bench:
    """Images with what fp32 says about them.

    Attributes:
        chosen_on, chosen_logits: images that steps are chosen on, and their logits ``(n, C)``.
        judged_on, judged_logits, targets: images that the budget is judged on.
        geometry: from file to pixels.
        plan: how the graphs that are tried, which are those of a tile, become a picture's.
    """

    chosen_on: Sequence[Path]
    chosen_logits: Floats
    judged_on: Sequence[Path]
    judged_logits: Floats
    targets: Sequence[int]
    geometry: Geometry
    plan: Plan = _WHOLE

    def run(self, model: onnx.ModelProto, paths: Sequence[Path]) -> Floats:
        """Return logits ``(len(paths), C)`` of a graph to try."""
        return run_graph(tiled(model, self.plan), paths, self.geometry)

    def error(self, model: onnx.ModelProto, count: int | None = None) -> float:
        """Return the relative error of the logits on the first ``count`` images to choose on."""
        logits = self.run(model, self.chosen_on[:count])
        return relative_error(logits, self.chosen_logits[:count])

    def judge(self, model: onnx.ModelProto) -> Verdict:
        """Compare with fp32 on the images that the budget is judged on."""
        logits = self.run(model, self.judged_on)
        return verdict_of(self.judged_logits, logits, self.targets)


def within(verdict: Verdict, max_drop: float) -> bool:
    """Say whether top-1 falls by no more than ``max_drop`` points, or by one image.

    Fewer images than 100 / ``max_drop`` cannot show so small a fall.
    """
    lost = verdict.lost - verdict.won
    return lost <= max(1, max_drop * verdict.labelled / 100 + 1e-9)


def relative_error(logits: Floats, wanted: Floats) -> float:
    """Return the error of logits less what is common to all classes, which softmax ignores."""
    off = logits.astype(np.float64) - wanted
    off -= off.mean(axis=1, keepdims=True)
    spread = wanted.astype(np.float64) - wanted.mean(axis=1, keepdims=True)
    return float(np.sqrt((off**2).mean() / max((spread**2).mean(), 1e-30)))


def run_graph(model: onnx.ModelProto, paths: Sequence[Path], geometry: Geometry) -> Floats:
    """Return logits ``(len(paths), C)`` of a graph that is no file yet, on the CPU."""
    session = watching(model, ())
    rows = [session.run(["logits"], {"pixels": p})[0] for p in batches(paths, geometry)]
    return np.concatenate(rows)
