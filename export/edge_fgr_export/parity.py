"""Do two models say the same about the same image files? Always through the runtime's own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.decision import probabilities
from edge_fgr.model import Model
from edge_fgr_export.ranges import batches

__all__ = ["Comparison", "compare", "fit_temperature", "logits_of"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A reference against a candidate. Shares are 0 to 1, ``largest`` is in units of a logit."""

    images: int
    agreement: float
    reference_top1: float
    candidate_top1: float
    largest: float

    def line(self, reference: str, candidate: str) -> str:
        """Return the comparison as one line for people."""
        return (
            f"{reference} against {candidate} on {self.images} images: labels agree "
            f"{self.agreement:.2%}, top-1 {self.reference_top1:.2%} and {self.candidate_top1:.2%}, "
            f"largest logit difference {self.largest:.2g}"
        )


def compare(reference: Floats, candidate: Floats, targets: Sequence[int]) -> Comparison:
    """Compare logits ``(N, C)`` of the same images."""
    a, b, truth = reference.argmax(1), candidate.argmax(1), np.asarray(targets)
    return Comparison(
        images=len(truth),
        agreement=float(np.mean(a == b)),
        reference_top1=float(np.mean(a == truth)),
        candidate_top1=float(np.mean(b == truth)),
        largest=float(np.abs(reference - candidate).max()),
    )


def logits_of(model: Model, paths: Sequence[Path], geometry: Geometry) -> Floats:
    """Return logits float32 ``(len(paths), C)`` of image files."""
    return np.concatenate([model.run(pixels) for pixels in batches(paths, geometry)])


def fit_temperature(logits: Floats, targets: Sequence[int]) -> float:
    """Return the divisor of the logits with the least cross-entropy (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in 1/T; a fine grid of T from 0.1 to 10 is enough and repeatable.
    """
    rows = np.arange(len(targets))
    candidates = np.exp(np.linspace(np.log(0.1), np.log(10), 401))
    losses = [
        float(-np.log(probabilities(logits, t)[rows, list(targets)] + 1e-300).mean())
        for t in candidates
    ]
    return round(float(candidates[int(np.argmin(losses))]), 4)
