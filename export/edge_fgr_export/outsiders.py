"""What a model says of images that it never saw, for what is promised of its confidence.

Where all images were trained on, a sibling stands in: a run of the same recipe that left some out.
Its answers to these are taken for those of the model, as cross-fitting does (scikit-learn's
``CalibratedClassifierCV(ensemble=False)``; Platt 1999, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label
from edge_fgr.decision import unknown_score
from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.familiar import familiar_from_json
from edge_fgr.model import open_model
from edge_fgr.progress import say
from edge_fgr_export.familiar_fit import fit_familiar
from edge_fgr_export.images import familiar_images
from edge_fgr_export.parity import answers_of, embeddings_of
from edge_fgr_train.checkpoint import Run
from edge_fgr_train.dataset import Sample, targets_of
from edge_fgr_train.parts import split_again

__all__ = ["Outsiders", "familiarity", "of_sibling"]

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Outsiders:
    """Answers to images that were not trained on.

    Attributes:
        logits: ``(N, C)``.
        targets: the right classes.
        scores: how familiar each image is, ``(N,)``; None where that cannot be fitted.
        fitted_on: what the images were, in words.
        paths: their files; empty where the model itself answered.
    """

    logits: Floats
    targets: Sequence[int]
    scores: Floats | None
    fitted_on: str
    paths: Sequence[Path] = ()

    def scale(self, paths: Sequence[Path], logits: Floats) -> float:
        """Return by how much a model's logits are larger than these, on images that neither saw.

        Two runs of one recipe may differ in how far they push the largest logit, and the
        temperature must differ as much. It is 1 where there are no such images.

        Args:
            paths: images that the model did not see.
            logits: its answers, ``(len(paths), C)``.
        """
        place = {path: i for i, path in enumerate(self.paths)}
        both = [(i, place[path]) for i, path in enumerate(paths) if path in place]
        if not both:
            return 1.0
        mine, theirs = (list(side) for side in zip(*both, strict=True))
        ratio = unknown_score(logits[mine]).mean() / unknown_score(self.logits[theirs]).mean()
        return float(ratio)


def familiarity(
    path: Path, fit: Sequence[Sample], labels: Sequence[Label], embeddings: Floats
) -> tuple[str, Floats] | None:
    """Fit ``edge_fgr.familiar`` on the training images ``fit`` of the model ``path``.

    Args:
        path: a ``.onnx`` file.
        fit: images that it was trained on.
        labels: its labels.
        embeddings: ``(N, D)`` of images that it was not.

    Returns:
        The document for the model's file, and the scores ``(N,)``; None where there are too few
        classes.
    """
    model = open_model(path, device="cpu")
    seen = embeddings_of(model, [sample.path for sample in fit], model.contract.geometry)
    document = fit_familiar(seen, targets_of(fit, labels), len(labels))
    if document is None:
        return None
    familiar = familiar_from_json(document)
    return document, np.array([familiar.score(row) for row in embeddings])


def of_sibling(
    folder: Path, path: Path | None, data: str | None, labels: Sequence[Label]
) -> Outsiders:
    """Return what a sibling says of the images that it was not trained on.

    Args:
        folder: its run.
        path: its exported model; None: where export writes it, in the run's folder.
        data: where its images are now; None: where they were.
        labels: those of the model that it stands in for.

    Raises:
        InputMissingError: no run, no model, its images are gone, or it saw all of them.
        UsageError: it has other classes.
    """
    made = Run.read(folder)
    path = path or folder / f"{made.recipe.name}.onnx"
    if not path.exists():
        raise InputMissingError(
            f"{path}: no such model; export the sibling first (edge-fgr export {folder}), or say "
            "with --sibling-model where it is"
        )
    split = split_again(made, data, "say with --data where the images are")
    trained = {sample.path for sample in split.fit}
    held = sorted({s for s in (*split.calibration, *split.evaluate) if s.path not in trained})
    if not held:
        raise InputMissingError(
            f"{folder}: the sibling was trained on all of its images; give one that left some out"
        )
    model = open_model(path, device="cpu")
    if tuple(model.contract.labels) != tuple(labels):
        raise UsageError(f"{path}: the sibling has other classes; train it on the same data")
    say(f"{path.name}: {len(held)} images that it was not trained on")
    paths = [sample.path for sample in held]
    logits, embeddings = answers_of(model, paths, model.contract.geometry)
    found = familiarity(path, familiar_images(split.fit), labels, embeddings)
    parts = [*(["calibration"] if split.calibration else [])]
    parts += [split.folders[-1]] if split.evaluate else []
    words = f"{' and '.join(parts)} of a sibling"
    return Outsiders(logits, targets_of(held, labels), found and found[1], words, paths)
