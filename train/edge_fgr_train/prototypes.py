"""Chain heads that are computed from class means, in the manner of scikit-learn's classifiers.

Each is linear in what it judges, so it folds into one product like any other head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from edge_fgr_train.refit import whitened_directions

__all__ = ["HEADS", "ONE_SCALE", "Cosine", "Prototype", "Whitened"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


_LARGE = 16.0
"""Mean squared distance from the centre, as ``Prototype`` scales it."""


class _OfMeans(BaseEstimator):  # type: ignore[misc]
    """A linear classifier ``coef_`` ``(C, K)`` and ``intercept_`` ``(C,)``, also of two classes."""

    coef_: Doubles
    intercept_: Doubles
    classes_: Ints

    def decision_function(self, x: Doubles) -> Doubles:
        """Return decision values ``(N, C)``."""
        values: Doubles = x @ self.coef_.T + self.intercept_
        return values

    def predict(self, x: Doubles) -> Ints:
        """Return the class of each row."""
        answers: Ints = self.classes_[self.decision_function(x).argmax(axis=1)]
        return answers

    def _means(self, x: Doubles, y: Ints) -> Doubles:
        self.classes_ = np.unique(y)
        return np.stack([x[y == c].mean(axis=0) for c in self.classes_])


class Cosine(_OfMeans):
    """Nearest class mean by angle, around the mean of the class means.

    The length of what is judged is the same for all classes: leaving it out changes no answer, and
    leaves a linear classifier whose rows have length 1.
    """

    def fit(self, x: Doubles, y: Ints) -> Cosine:
        """Learn the directions ``coef_`` ``(C, K)`` of the classes."""
        means = self._means(x, y)
        centre = means.mean(axis=0)
        lengths = np.linalg.norm(means - centre, axis=1, keepdims=True)
        self.coef_ = (means - centre) / np.maximum(lengths, 1e-12)
        self.intercept_ = -self.coef_ @ centre
        return self


class Prototype(_OfMeans):
    """Nearest class mean by Euclidean distance (Snell et al. 2017, Prototypical Networks).

    Their section 2.4: ``-|x - m|²`` is linear in x, less ``|x|²``, which all classes share: weight
    2 m, bias ``-|m|²``. Both are around the mean of the class means, and times one number, so that
    logits are about as large as those of other heads.
    """

    def fit(self, x: Doubles, y: Ints) -> Prototype:
        """Learn from rows ``(N, K)`` and their classes ``(N,)``."""
        means = self._means(x, y)
        centre = means.mean(axis=0)
        means -= centre
        factor = _LARGE / max(float(np.square(x - centre).sum(axis=1).mean()), 1e-12)
        self.coef_ = 2 * factor * means
        self.intercept_ = -factor * np.square(means).sum(axis=1) - self.coef_ @ centre
        return self


class Whitened(_OfMeans):
    """The head of ``edge_fgr_train.refit``: by angle, where what varies within classes is round.

    What varies is estimated over all classes together, so a few images of each are enough.
    """

    def fit(self, x: Doubles, y: Ints) -> Whitened:
        """Learn the whitened directions of the classes."""
        self.classes_, places = np.unique(y, return_inverse=True)
        self.coef_, self.intercept_ = whitened_directions(x, places, len(self.classes_))
        return self


HEADS: dict[str, Any] = {"cosine": Cosine, "prototype": Prototype, "whitened": Whitened}
"""By the name that a recipe gives them."""

ONE_SCALE = ("prototype", "whitened")
"""Heads that measure distances: a scale for each feature would be another metric."""
