"""Do two models say the same about the same image files? Always through the runtime's own way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.errors import ModelError
from edge_fgr.model import Model
from edge_fgr.progress import say
from edge_fgr_export.trial import within
from edge_fgr_export.verify import Verdict, verdict_of
from edge_fgr_train.batches import batches

__all__ = [
    "Runs",
    "answers_of",
    "check_candidate",
    "check_twin",
    "embeddings_of",
    "line_of",
    "logits_of",
]

Floats = npt.NDArray[np.float32]

_MAX_LOGIT_DIFFERENCE = 1e-3
_MIN_AGREEMENT = 0.95
_MIN_CHAIN_AGREEMENT = 0.8


def line_of(verdict: Verdict, reference: str, candidate: str) -> str:
    """Return a comparison as one line for people."""
    count = max(verdict.labelled, 1)
    return (
        f"{reference} against {candidate} on {verdict.images} images: labels agree "
        f"{verdict.agreement:.2%}, top-1 {verdict.reference_right / count:.2%} and "
        f"{verdict.candidate_right / count:.2%} (McNemar p {verdict.p:.2g}), "
        f"largest logit difference {verdict.largest:.2g}"
    )


def check_twin(output: Path, network: Floats, fp32: Floats, targets: Sequence[int]) -> float:
    """Return the top-1 of the network, 0 to 1.

    Raises:
        ModelError: the fp32 graph does not give the network's logits.
    """
    same = verdict_of(network, fp32, targets)
    say(line_of(same, "torch", "fp32"))
    # In units of the spread of the logits, which may be far from 1 in a linear classifier.
    if same.largest > _MAX_LOGIT_DIFFERENCE * max(1.0, float(network.std())):
        raise ModelError(f"{output}: fp32 differs from the network by {same.largest:.2g}")
    return same.reference_right / same.labelled


def check_candidate(
    output: Path,
    kind: str,
    fp32: Floats,
    logits: Floats,
    targets: Sequence[int],
    exact: Floats | None = None,
    *,
    max_drop: float,
) -> dict[str, float]:
    """Return the figures of a model for its provenance.

    Args:
        output: its name, for messages.
        kind: what it is, such as ``int8``; begins the names of its figures.
        fp32: logits ``(N, C)`` of the model that it stands for.
        logits: its own.
        targets: the right classes.
        exact: for a chain, the decision values of its classifier on the graph's own embedding. It
            must then repeat these; against fp32 near-ties may flip both ways.
        max_drop: most that top-1 may fall, in points.

    Raises:
        ModelError: it does not agree, or is worse than that.
    """
    result = verdict_of(fp32, logits, targets)
    say(line_of(result, "fp32", kind))
    figures = {
        "images": float(result.images),
        "fp32_top1": result.reference_right / result.labelled,
        f"{kind}_top1": result.candidate_right / result.labelled,
        "agreement": result.agreement,
        "p": result.p,
    }
    least, advice = _MIN_AGREEMENT, "train longer, or deploy the fp32 file"
    if exact is not None:
        repeated = verdict_of(exact, logits, targets)
        say(line_of(repeated, "scikit-learn on the same embedding", kind))
        figures["head_agreement"] = repeated.agreement
        if repeated.agreement < _MIN_AGREEMENT:
            raise ModelError(
                f"{output}: {kind} repeats its classifier on only {repeated.agreement:.1%} of the "
                "images; regularise more (chain.c), keep less (--select), or deploy the fp32 file"
            )
        least, advice = _MIN_CHAIN_AGREEMENT, "choose another backbone, or deploy the fp32 file"
    if not within(result, max_drop):
        raise ModelError(
            f"{output}: {kind} is right on {figures[f'{kind}_top1']:.1%} of {result.labelled} "
            f"images, fp32 on {figures['fp32_top1']:.1%}, a fall of more than --max-drop "
            f"{max_drop:g}; {advice}, or allow more"
        )
    if result.agreement < least:
        raise ModelError(
            f"{output}: {kind} agrees with fp32 on only {result.agreement:.1%} of the images; "
            f"{advice}"
        )
    return figures


class Runs(Protocol):
    """What gives logits ``(N, C)`` of pixels ``(N, size, size, 3)``."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """Return logits."""
        ...


def logits_of(model: Runs, paths: Sequence[Path], geometry: Geometry) -> Floats:
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
