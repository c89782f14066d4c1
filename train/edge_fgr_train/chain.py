"""Embeddings → selection → scaler → linear classifier, and all of it folded into one product.

scikit-learn fits each part; the strength C of the classifier comes from cross-validation in which
near-duplicates never stand on both sides, and in which selection is fitted inside of each fold.
Of the candidates that are no worse than the best by more than one standard error of the difference,
the smallest C is taken (after Breiman et al. 1984, section 3.4.3): photographs of one collection
resemble each other more than those to come.
The scaler stands behind the selection: principal components become white, and neither components
nor discriminants depend on features that hardly vary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from edge_fgr.parallel import cores
from edge_fgr.progress import progress
from edge_fgr_train.prototypes import HEADS, ONE_SCALE
from edge_fgr_train.recipe import Chain
from edge_fgr_train.scales import OneScale, WithinScale
from edge_fgr_train.selection import parse_selection, transformer_of
from edge_fgr_train.temperature import fit_temperature

__all__ = ["Fitted", "Point", "decisions", "fit_chain", "fold"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class Point(NamedTuple):
    """One strength C: mean top-1 over the folds, 0 to 1, and its standard error."""

    c: float
    top1: float
    error: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted chain.

    Attributes:
        pipeline: scikit-learn's own.
        path: what cross-validation measured; empty when it could not be done.
        c: the strength that was chosen.
        left_out: rows that some fold left out; all, unless a class has too few groups.
        logits: what that fold's classifier of the chosen strength said of them, ``(n, C)``.
        temperature: divisor of the logits that makes their softmax fit the left-out rows.
    """

    pipeline: Pipeline
    path: tuple[Point, ...]
    c: float
    left_out: Ints
    logits: Doubles
    temperature: float


def fit_chain(
    embedding: npt.NDArray[np.floating[Any]],
    targets: Sequence[int],
    groups: Sequence[int],
    rules: Chain,
    views: npt.NDArray[np.floating[Any]] | None = None,
) -> Fitted:
    """Choose C by cross-validation and fit the chain on everything.

    Args:
        embedding: ``(N, D)``.
        targets: class of each row, from 0 on without a gap.
        groups: rows of one group stay on one side of a fold.
        rules: selection, classifier, candidates for C, number of folds.
        views: changed copies ``(N, V, D)``, which are fitted beside their rows and never judged.

    Raises:
        UsageError: the selection asks for more than the data can give.
    """
    x, y = np.asarray(embedding, np.float64), np.asarray(targets)
    more = np.empty((len(x), 0, x.shape[1])) if views is None else np.asarray(views, np.float64)
    classes = int(y.max()) + 1
    shape = len(x) * (1 + more.shape[1]), x.shape[1]
    candidates = sorted(rules.c) if rules.head not in HEADS else [1.0]
    pipeline = _pipeline(rules, candidates[0], shape, classes)  # refuses before it takes time
    found: list[tuple[Ints, Doubles]] = []  # left-out rows, logits (candidates, rows, classes)
    with warnings.catch_warnings():
        # Classes with fewer images than folds, and strengths that do not converge, may be.
        warnings.simplefilter("ignore", UserWarning)
        splits = list(_folds(x, y, groups, rules.folds))
        with progress(len(splits) * len(candidates) + 1, "cross-validation") as step:
            for inside, outside in splits:
                seen = _with_views(x, y, more, inside)
                logits = _path(*seen, x[outside], rules, candidates, classes, step)
                found.append((outside, logits))
            path, best, rows, logits = _judge(found, y, candidates)
            everything = _with_views(x, y, more, np.arange(len(x)))
            pipeline.set_params(head=_head(rules, candidates[best])).fit(*everything)
            step(1, "")
    temperature = fit_temperature(logits, y[rows].tolist()) if len(rows) else 1.0
    return Fitted(pipeline, path, candidates[best], rows, logits, temperature)


def decisions(classifier: Any, embedding: npt.NDArray[np.floating[Any]]) -> Doubles:
    """Return the decision values of a pipeline, or of its head, as logits ``(N, C)``.

    For two classes scikit-learn gives one value d: the logits are (-d/2, d/2), whose softmax is the
    logistic function of d.
    """
    values: Doubles = classifier.decision_function(np.asarray(embedding, np.float64))
    return values if values.ndim == 2 else np.stack([-values / 2, values / 2], axis=1)


def fold(pipeline: Pipeline) -> tuple[Doubles, Doubles]:
    """Fold selection, scaler and classifier into one product.

    Returns:
        weight ``(C, D)`` and bias ``(C,)``: logits = embedding @ weight.T + bias.
    """
    select, scale, head = (pipeline[name] for name in ("select", "scale", "head"))
    weight, bias = head.coef_, head.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    within = isinstance(scale, WithinScale)
    weight = weight @ scale.matrix_.T if within else weight / scale.scale_
    bias = bias - weight @ scale.mean_
    if select != "passthrough":
        # Every selection is affine: the images of 0 and of the unit vectors say all of it.
        zero = select.transform(np.zeros((1, select.n_features_in_)))
        matrix = select.transform(np.eye(select.n_features_in_)) - zero  # (D, K)
        weight, bias = weight @ matrix.T, bias + weight @ zero[0]
    return weight, bias


def _pipeline(
    rules: Chain, c: float, shape: tuple[int, ...], classes: int, *, fewer: bool = False
) -> Pipeline:
    images, width = shape
    selection = parse_selection(rules.select)
    select = transformer_of(selection, images=images, width=width, classes=classes, fewer=fewer)
    measured = selection.kind == "lda" or rules.head in ONE_SCALE
    one = rules.scale == "all" or (rules.scale == "auto" and measured)
    scale = WithinScale() if rules.scale == "within" else OneScale() if one else StandardScaler()
    return Pipeline([("select", select), ("scale", scale), ("head", _head(rules, c))])


def _with_views(x: Doubles, y: Ints, views: Doubles, places: Ints) -> tuple[Doubles, Ints]:
    """Return some rows and then all of their views, with their classes."""
    copies = views[places].reshape(-1, x.shape[1])
    return np.concatenate([x[places], copies]), np.append(
        y[places], np.repeat(y[places], views.shape[1])
    )


def _head(rules: Chain, c: float) -> Any:
    if rules.head in HEADS:
        return HEADS[rules.head]()
    weights = "balanced" if rules.balanced else None
    if rules.head == "svm":
        return LinearSVC(C=c, loss="squared_hinge", class_weight=weights, random_state=0)
    return LogisticRegression(C=c, class_weight=weights, max_iter=500)


def _folds(x: Doubles, y: Ints, groups: Sequence[int], folds: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield (inside, outside); a class may be missing inside, where all it has is one group."""
    folds = min(folds, len(set(groups)))
    if folds < 2:
        return
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    try:
        splits = list(splitter.split(x, y, list(groups)))
    except ValueError:  # every class has fewer images than folds
        return
    for inside, outside in splits:
        known = outside[np.isin(y[outside], y[inside])]
        if len(known) and len(set(y[inside].tolist())) > 1:
            yield inside, known


def _path(
    x: Doubles, y: Ints, left_out: Doubles, rules: Chain, candidates: Sequence[float],
    classes: int, step: Any,
) -> Doubles:  # fmt: skip
    """Fit every candidate inside one fold; logits of the left-out rows ``(len(c), n, C)``."""
    present = np.unique(y)
    pipeline = _pipeline(rules, candidates[0], x.shape, len(present), fewer=True)
    prefix = Pipeline(pipeline.steps[:2])
    seen = prefix.fit_transform(x, y)
    unseen = prefix.transform(left_out)

    def fit(c: float) -> Doubles:
        head = _head(rules, c).fit(seen, y)
        values = decisions(head, unseen)
        logits = np.full((len(left_out), classes), -np.inf)  # a class that this fold never saw
        logits[:, present] = values
        step(1, "")
        return logits

    # Candidates run side by side; threads of the linear algebra below them would be in their way.
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(fit, candidates)))


def _judge(
    found: Sequence[tuple[Ints, Doubles]], y: Ints, candidates: Sequence[float]
) -> tuple[tuple[Point, ...], int, Ints, Doubles]:
    """Return the path, the place of the candidate that is taken, the left-out rows, its logits."""
    if not found:
        return (), len(candidates) // 2, np.empty(0, np.intp), np.empty((0, 0))
    shares = np.array([(logits.argmax(2) == y[rows]).mean(1) for rows, logits in found])
    hits = np.concatenate([logits.argmax(2) == y[rows] for rows, logits in found], axis=1)
    means = hits.mean(1)
    errors = shares.std(0, ddof=1) / len(shares) ** 0.5 if len(shares) > 1 else 0 * means
    behind = hits[means.argmax()].astype(int) - hits  # (candidates, n): what the best has over each
    noise = behind.std(1) / behind.shape[1] ** 0.5
    best = int(np.argmax(behind.mean(1) <= noise))  # the first that holds
    rows = np.concatenate([rows for rows, _ in found])
    logits = np.concatenate([logits[best] for _, logits in found])
    path = tuple(
        Point(c, round(float(m), 4), round(float(e), 4))
        for c, m, e in zip(candidates, means, errors, strict=True)
    )
    return path, best, rows, logits
