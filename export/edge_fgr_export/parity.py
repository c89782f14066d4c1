"""Do two models say the same about the same image files? Always through the runtime's own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from edge_fgr.contract import Geometry
from edge_fgr.errors import ModelError
from edge_fgr.model import Model
from edge_fgr.progress import say
from edge_fgr_export.ranges import batches

__all__ = [
    "Comparison",
    "answers_of",
    "check_int8",
    "check_twin",
    "compare",
    "embeddings_of",
    "logits_of",
]

Floats = npt.NDArray[np.float32]

_MAX_LOGIT_DIFFERENCE = 1e-3
_MIN_AGREEMENT = 0.95
_MIN_CHAIN_AGREEMENT = 0.8
_NOTED_DROP = 0.01
_MAX_CHANCE = 0.01
"""A loss that chance alone would bring less often than this is a loss."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A reference against a candidate.

    Attributes:
        agreement: share of equal labels, 0 to 1.
        reference_top1, candidate_top1: shares of right labels, 0 to 1.
        largest: largest difference of a logit.
        chance: how often a candidate that is no worse would lose as many images, 0 to 1: one-sided
            exact test of McNemar (1947).
    """

    images: int
    agreement: float
    reference_top1: float
    candidate_top1: float
    largest: float
    chance: float

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
    lost, won = int(((a == truth) & (b != truth)).sum()), int(((a != truth) & (b == truth)).sum())
    chance = binomtest(lost, lost + won, alternative="greater").pvalue if lost else 1.0
    return Comparison(
        images=len(truth),
        agreement=float(np.mean(a == b)),
        reference_top1=float(np.mean(a == truth)),
        candidate_top1=float(np.mean(b == truth)),
        largest=float(np.abs(reference - candidate).max()),
        chance=float(chance),
    )


def check_twin(output: Path, network: Floats, fp32: Floats, targets: Sequence[int]) -> float:
    """Return the top-1 of the network, 0 to 1.

    Raises:
        ModelError: the fp32 graph does not give the network's logits.
    """
    same = compare(network, fp32, targets)
    say(same.line("torch", "fp32"))
    # In units of the spread of the logits, which may be far from 1 in a linear classifier.
    if same.largest > _MAX_LOGIT_DIFFERENCE * max(1.0, float(network.std())):
        raise ModelError(f"{output}: fp32 differs from the network by {same.largest:.2g}")
    return same.reference_top1


def check_int8(
    output: Path,
    fp32: Floats,
    int8: Floats,
    targets: Sequence[int],
    exact: Floats | None = None,
) -> dict[str, float]:
    """Return the figures of an INT8 model for its provenance.

    Args:
        output: its name, for messages.
        fp32: logits ``(N, C)`` of the model that it stands for.
        int8: its own.
        targets: the right classes.
        exact: for a chain, the decision values of its classifier on the INT8 graph's own embedding.
            INT8 must then repeat these; against fp32 near-ties may flip both ways, but accuracy
            must not fall.

    Raises:
        ModelError: it does not agree, or is worse.
    """
    result = compare(fp32, int8, targets)
    say(result.line("fp32", "int8"))
    figures = {
        "images": float(result.images),
        "fp32_top1": result.reference_top1,
        "int8_top1": result.candidate_top1,
        "agreement": result.agreement,
    }
    least, advice = _MIN_AGREEMENT, "train longer, or deploy the fp32 file"
    if exact is not None:
        repeated = compare(exact, int8, targets)
        say(repeated.line("scikit-learn on the same embedding", "int8"))
        figures["head_agreement"] = repeated.agreement
        if repeated.agreement < _MIN_AGREEMENT:
            raise ModelError(
                f"{output}: INT8 repeats its classifier on only {repeated.agreement:.1%} of the "
                "images; regularise more (chain.c), keep less (--select), or deploy the fp32 file"
            )
        least, advice = _MIN_CHAIN_AGREEMENT, "choose another backbone, or deploy the fp32 file"
        if result.chance < _MAX_CHANCE:
            raise ModelError(
                f"{output}: INT8 is right on {result.candidate_top1:.1%} of the images, fp32 on "
                f"{result.reference_top1:.1%}; {advice}"
            )
    if result.agreement < least:
        raise ModelError(
            f"{output}: INT8 agrees with fp32 on only {result.agreement:.1%} of the images; "
            f"{advice}"
        )
    if (drop := result.reference_top1 - result.candidate_top1) > _NOTED_DROP:
        say(
            f"warning: INT8 is right on {100 * drop:.1f} points fewer of these {result.images} "
            "images; judge it on more, or deploy the fp32 file"
        )
    return figures


def logits_of(model: Model, paths: Sequence[Path], geometry: Geometry) -> Floats:
    """Return logits float32 ``(len(paths), C)`` of image files."""
    return np.concatenate([model.run(pixels) for pixels in batches(paths, geometry)])


def embeddings_of(model: Model, paths: Sequence[Path], geometry: Geometry) -> Floats:
    """Return embeddings float32 ``(len(paths), D)`` of image files."""
    return answers_of(model, paths, geometry)[1]


def answers_of(model: Model, paths: Sequence[Path], geometry: Geometry) -> tuple[Floats, Floats]:
    """Return logits ``(len(paths), C)`` and embeddings ``(len(paths), D)`` of image files."""
    logits, embeddings = zip(
        *(model.outputs(pixels, "logits", "embedding") for pixels in batches(paths, geometry)),
        strict=True,
    )
    return np.concatenate(logits), np.concatenate(embeddings)
