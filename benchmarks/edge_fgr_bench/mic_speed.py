"""The maximal information coefficient of many features with many classes: how long it takes."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from sklearn.feature_selection import mutual_info_classif

from edge_fgr_train.mic import mic_labels

__all__ = ["mic_speed"]

_IMAGES, _FEATURES, _CLASSES = 3000, 1280, 81
_PART = 128
"""Features for scikit-learn, which takes them one by one: its time is scaled to all of them."""


def mic_speed() -> dict[str, float]:
    """Time ``mic_labels`` against scikit-learn's estimate from nearest neighbours, in turn.

    Noise will do: the time of neither depends on what the features tell.
    """
    random = np.random.default_rng(0)
    labels = random.integers(0, _CLASSES, _IMAGES)
    features = random.standard_normal((_IMAGES, _FEATURES), np.float32)
    ours, theirs = [], []
    for _ in range(3):
        start = perf_counter()
        mic_labels(features, labels)
        middle = perf_counter()
        mutual_info_classif(features[:, :_PART], labels, random_state=0)
        ours.append(middle - start)
        theirs.append((perf_counter() - middle) * _FEATURES / _PART)
    return {
        "mic_s": min(ours),
        "sklearn_mutual_info_s": min(theirs),
        "ratio": min(ours) / min(theirs),
    }
