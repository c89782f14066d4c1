"""Scalers of a chain that scikit-learn lacks: affine, so that they fold into one product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

from edge_fgr_train.refit import whitening

__all__ = ["OneScale", "WithinScale"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_SHRINK = 1.0
"""Share of the mean variance within classes that is added in all directions. With 5 images a class
and 8 views of each, 0.3 to 3 were within a point of each other (docs/few-shots.md)."""


class OneScale(StandardScaler):  # type: ignore[misc]
    """One scale for all features, so that those that vary little count little."""

    def fit(self, x: Doubles, y: Ints | None = None) -> OneScale:
        """Learn the means and the root of the mean variance."""
        super().fit(x, y)
        self.scale_ = np.full_like(self.mean_, np.sqrt(self.var_.mean()) or 1.0)
        return self


class WithinScale(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What varies within classes becomes about alike in all directions, the mean variance 1.

    Within-class covariance normalisation (Hatch et al. 2006, "Within-class Covariance Normalization
    for SVM-based Speaker Recognition", section 3), shrunk: directions in which images of one class
    differ tell little about the class.
    """

    def fit(self, x: Doubles, y: Ints) -> WithinScale:
        """Learn ``mean_`` ``(D,)`` and ``matrix_`` ``(D, D)`` of rows ``(N, D)`` of classes."""
        self.mean_ = x.mean(axis=0)
        labels, places = np.unique(y, return_inverse=True)
        means = np.stack([x[y == label].mean(axis=0) for label in labels])
        whiten = whitening(x, means[places], _SHRINK)
        spread = float(((x - self.mean_) @ whiten).var(axis=0).mean()) ** 0.5
        self.matrix_ = whiten / (spread or 1.0)
        return self

    def transform(self, x: Doubles) -> Doubles:
        """Return the rows seen so."""
        seen: Doubles = (x - self.mean_) @ self.matrix_
        return seen
