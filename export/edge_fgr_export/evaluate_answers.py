"""What a model says of labelled images, as ``edge-fgr classify`` would hear it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.confidence import Unknown
from edge_fgr.decision import unknown_score
from edge_fgr.model import Model
from edge_fgr.progress import progress
from edge_fgr_export.answerers import Answerer, answers
from edge_fgr_train.batches import batches

__all__ = ["Answers", "ask"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of N images.

    Attributes:
        logits: ``(N, C)``.
        unknown: images that the model calls unknown ``(N,)``; none where it has no threshold.
    """

    logits: Floats
    unknown: npt.NDArray[np.bool_]


def ask(side: Answerer, paths: Sequence[Path]) -> Answers:
    """Run the images through one model; errors as ``edge_fgr_export.answerers.answers``.

    Raises:
        ContractError: the model lacks what its score of unknown images needs.
    """
    confidence = side.contract.confidence if side.contract else None
    unknown = confidence.unknown if confidence else None
    if unknown is not None and unknown.score == "whitened_cosine" and side.model:
        return _with_embeddings(side.model, unknown, paths)
    (logits,) = answers((side,), paths, "evaluate")
    strange = np.zeros(len(paths), np.bool_)
    if unknown is not None and unknown.score == "max_minus_mean":
        strange = unknown_score(logits) < unknown.threshold
    return Answers(logits, strange)


def _with_embeddings(model: Model, unknown: Unknown, paths: Sequence[Path]) -> Answers:
    familiar = model.familiar()
    rows: list[Floats] = []
    strange: list[Any] = []
    with progress(len(paths), "evaluate") as advance:
        for pixels in batches(paths, model.contract.geometry):
            logits, embeddings = model.outputs(pixels, "logits", "embedding")
            rows.append(logits)
            strange += [familiar.score(row) < unknown.threshold for row in embeddings]
            advance(len(pixels), "")
    return Answers(np.concatenate(rows), np.array(strange, np.bool_))
