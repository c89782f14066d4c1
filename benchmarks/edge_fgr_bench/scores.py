"""Scores of how familiar an image is, side by side; higher is more familiar. float64 throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax

from edge_fgr.decision import unknown_score
from edge_fgr.familiar import familiar_from_json
from edge_fgr.head import Head
from edge_fgr_export.familiar_fit import fit_familiar

__all__ = ["Seen", "scores"]

Floats = npt.NDArray[np.floating]
Whole = npt.NDArray[np.int64]

_SHRINKAGE = 0.3
_NEIGHBOURS = 5
_PRINCIPAL = 128


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model says of the images that scores are fitted on.

    Attributes:
        logits: ``(N, C)``.
        embeddings: ``(N, D)``.
        targets: ``(N,)``.
        head: its head.
        temperature: its fitted temperature.
    """

    logits: Floats
    embeddings: Floats
    targets: Whole
    head: Head
    temperature: float


def scores(seen: Seen, logits: Floats, embeddings: Floats) -> dict[str, Floats]:
    """Return scores ``(M,)`` by name of images with logits ``(M, C)`` and embeddings ``(M, D)``.

    The first is what ships.
    """
    classes = logits.shape[1]
    document = fit_familiar(seen.embeddings, seen.targets.tolist(), classes)
    found: dict[str, Floats] = {}
    if document is not None:
        familiar = familiar_from_json(document)
        found["whitened cosine"] = np.array([familiar.score(row) for row in embeddings])
    rows, train = embeddings.astype(np.float64), seen.embeddings.astype(np.float64)
    found |= _of_logits(logits.astype(np.float64), seen.temperature)
    found |= _of_means(_unit(train), seen.targets, _unit(rows), classes)
    found |= _of_neighbours(seen, _unit(train), _unit(rows), logits.astype(np.float64))
    found |= _of_subspace(seen, train, rows, logits.astype(np.float64))
    means = np.stack([_unit(train)[seen.targets == c].mean(axis=0) for c in range(classes)])
    found["cosine to class means"] = (_unit(rows) @ _unit(means).T).max(axis=1)
    weights = seen.head.weight.astype(np.float64)
    found["cosine to head weights"] = (_unit(rows) @ _unit(weights).T).max(axis=1)
    if document is not None:
        for other in ("softmax", "GEN", "Mahalanobis, length 1"):
            both = (found["whitened cosine"], found[other])
            found[f"whitened cosine + {other}"] = both[0] / both[0].std() + both[1] / both[1].std()
    return found


def _of_logits(logits: Floats, temperature: float) -> dict[str, Floats]:
    values = softmax(logits, axis=1)
    largest = np.sort(softmax(logits / (2 * temperature), axis=1), axis=1)[:, ::-1][:, :10]
    return {
        # Hendrycks and Gimpel, ICLR 2017
        "softmax": values.max(axis=1),
        "softmax, fitted temperature": softmax(logits / temperature, axis=1).max(axis=1),
        # Hendrycks et al., ICML 2022
        "max logit": logits.max(axis=1),
        # Liu et al., NeurIPS 2020, equation 4
        "energy": logsumexp(logits, axis=1),
        "energy, fitted temperature": logsumexp(logits / temperature, axis=1),
        "max minus mean": unknown_score(logits),
        "entropy": (values * np.log(values + 1e-30)).sum(axis=1),
        # Liu, Lochman and Zach, CVPR 2023, equation 3: gamma 0.1 over the ten largest
        "GEN": -(largest**0.1 * (1 - largest) ** 0.1).sum(axis=1),
    }


def _of_means(train: Floats, targets: Whole, rows: Floats, classes: int) -> dict[str, Floats]:
    """Lee et al., NeurIPS 2018, section 2.1, and Ren et al. 2021, on embeddings of length 1."""
    means = np.stack([train[targets == c].mean(axis=0) for c in range(classes)])
    spread = train - means[targets]
    centre = train.mean(axis=0)
    within = _inverse(spread.T @ spread / len(spread))
    whole = _inverse(np.cov(train.T, bias=True))
    nearest = np.min([_square(rows - mean, within) for mean in means], axis=0)
    return {
        "Mahalanobis, length 1": -nearest,
        "relative Mahalanobis": -(nearest - _square(rows - centre, whole)),
    }


def _of_neighbours(seen: Seen, train: Floats, rows: Floats, logits: Floats) -> dict[str, Floats]:
    alike = rows @ train.T
    sure = logsumexp(seen.logits.astype(np.float64), axis=1)
    guided = np.sort(alike * sure, axis=1)[:, -_NEIGHBOURS:].mean(axis=1)
    return {
        # Sun et al., ICML 2022, section 3
        "k nearest": np.sort(alike, axis=1)[:, -_NEIGHBOURS],
        # Park, Jung and Teoh, ICCV 2023, equation 3
        "NNGuide": logsumexp(logits, axis=1) * guided,
    }


def _of_subspace(seen: Seen, train: Floats, rows: Floats, logits: Floats) -> dict[str, Floats]:
    """Wang et al., CVPR 2022, section 4."""
    weight, bias = seen.head.weight.astype(np.float64), seen.head.bias.astype(np.float64)
    origin = -np.linalg.pinv(weight) @ bias
    moved = train - origin
    kept = min(_PRINCIPAL, len(weight), moved.shape[1] // 2)
    outer = np.linalg.eigh(moved.T @ moved)[1][:, :-kept]
    outside = np.linalg.norm((rows - origin) @ outer, axis=1)
    usual = np.linalg.norm(moved @ outer, axis=1).mean()
    alpha = seen.logits.max(axis=1).mean() / usual
    return {"residual": -outside, "ViM": logsumexp(logits, axis=1) - alpha * outside}


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)  # type: ignore[no-any-return]


def _inverse(spread: Floats) -> Floats:
    plain = np.trace(spread) / len(spread) * np.eye(len(spread))
    return np.linalg.inv((1 - _SHRINKAGE) * spread + _SHRINKAGE * plain)


def _square(rows: Floats, inverse: Floats) -> Floats:
    return ((rows @ inverse) * rows).sum(axis=1)  # type: ignore[no-any-return]
