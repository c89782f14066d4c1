"""What is kept of an embedding: ``none``, ``pca:K``, ``mic:K`` or ``lda:K``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from edge_fgr.errors import UsageError

__all__ = ["Kind", "Selection", "parse_selection", "scores_of", "transformer_of"]

Kind = Literal["none", "pca", "mic", "lda"]

Doubles = npt.NDArray[np.float64]

_SHRINKAGE = 0.3
"""How far the covariance goes towards a multiple of the identity. What is estimated from the data
(Ledoit and Wolf 2004) is far less, as if photographs from another place were drawn from the same
distribution."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept.

    Attributes:
        kind: ``pca``: principal components; ``mic``: features with the highest maximal
            information coefficient with the class; ``lda``: linear discriminants, with the
            covariance shrunk (Friedman 1989, "Regularized Discriminant Analysis").
        amount: how many; for ``pca`` below 1 the share of the variance.
    """

    kind: Kind = "none"
    amount: float = 0.0


def parse_selection(text: str) -> Selection:
    """Read ``none``, ``pca:64``, ``pca:0.95``, ``mic:256`` or ``lda:80``.

    Raises:
        UsageError: it is none of these.
    """
    kind, colon, number = text.partition(":")
    try:
        amount = float(number) if colon else 0.0
    except ValueError:
        amount = -1.0
    whole = amount >= 1 and amount == int(amount)
    fits = whole or (kind == "pca" and 0 < amount < 1)
    if kind not in get_args(Kind) or not (not colon if kind == "none" else fits):
        raise UsageError(
            f"--select {text}: is none of none, pca:K, mic:K and lda:K, where K is a number of "
            "features, or for pca a share of the variance such as 0.95"
        )
    return Selection(cast("Kind", kind), amount)


def transformer_of(
    selection: Selection, *, images: int, width: int, classes: int, fewer: bool = False
) -> Any:
    """Return an unfitted scikit-learn transformer, or ``"passthrough"``.

    Args:
        selection: what to keep.
        images: number of embeddings that it will be fitted on.
        width: length of an embedding.
        classes: number of classes among them.
        fewer: keep as many as there can be instead of refusing; a fold may lack a class.

    Raises:
        UsageError: K is more than such data can give.
    """
    count = int(selection.amount) if selection.amount >= 1 else selection.amount
    most = {"none": width, "pca": min(width, images - 1), "mic": width, "lda": classes - 1}
    limit = min(most[selection.kind], width)
    if count > limit and fewer:
        count = limit
    elif count > limit:
        raise UsageError(
            f"--select {selection.kind}:{count}: at most {limit} with {images} images of "
            f"{classes} classes and {width} features"
        )
    if selection.kind == "pca":
        from sklearn.decomposition import PCA

        return PCA(count, svd_solver="full")
    if selection.kind == "lda":
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(solver="eigen", shrinkage=_SHRINKAGE, n_components=count)
    if selection.kind == "mic":
        from sklearn.feature_selection import SelectKBest

        from edge_fgr_train.mic import mic_labels

        return SelectKBest(mic_labels, k=count)
    return "passthrough"


def scores_of(fitted: Any) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Return what a fitted transformer says about each feature or component, and what it kept.

    For ``mic`` the score of each feature; for ``pca`` and ``lda`` the share of the (between-class)
    variance of each component, all of them kept; for ``none`` nothing.
    """
    if hasattr(fitted, "scores_"):
        return fitted.scores_, fitted.get_support()
    shares = getattr(fitted, "explained_variance_ratio_", np.empty(0))
    return shares, np.ones(len(shares), bool)
