"""The maximal information coefficient: how much a variable tells of another, whatever the shape.

``mic_e`` takes two numeric variables: MIC_e of Reshef, Reshef, Finucane, Sabeti and Mitzenmacher,
"Measuring Dependence Powerfully and Equitably", JMLR 17 (2016). Of all grids of k x l cells within
a budget, the finer axis is cut into equal counts, the coarser one as suits best. ``mic_labels``
takes classes in place of the axis that is cut into equal counts.

With one axis fixed, n times the mutual information is, up to a constant, a sum over the bins b of
the other of sum_q g(n_bq) - g(n_b), where n_bq points of bin b lie in cell q and g(n) = n log2 n.
So a dynamic programme over candidate cuts finds the best 1, 2, …, k bins at once (OptimizeXAxis of
Reshef et al., Science 334 (2011), supplement). g is kept as integers: sums are exact, and depend
neither on the order of cells and features nor on blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_fgr.errors import UsageError

__all__ = ["mic_e", "mic_e_many", "mic_labels", "permutation_threshold"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating | np.integer]
Score = Callable[[Doubles], Doubles]

_BLOCK = 1 << 19
"""Numbers in the largest arrays: 4 MiB, what a cache holds."""


def mic_e(x: Reals, y: Reals, *, alpha: float = 0.6, clumps: int = 6) -> float:
    """Return MIC_e of two variables ``(n,)``: ``mic_e_many`` of one feature."""
    return float(mic_e_many(np.asarray(x)[..., None], y, alpha=alpha, clumps=clumps)[0])


def mic_e_many(features: Reals, target: Reals, *, alpha: float = 0.6, clumps: int = 6) -> Doubles:
    """Return MIC_e of each column of ``features`` ``(n, F)`` with ``target`` ``(n,)``.

    The largest entry of the sample equicharacteristic matrix (JMLR 2016, sections 3 and 4): over
    2 <= k <= l with k * l <= B, l cells of equal count on one variable and the best k bins on the
    other, either way round, mutual information over log k. It depends on ranks only, and is the
    same to the bit when a variable is reversed or the two change places.

    Args:
        features: real numbers ``(n, F)``.
        target: real numbers ``(n,)``.
        alpha: B = max(n ** alpha, 4), 0.6 as in the paper of 2011. More follows functions with more
            turns, but raises the scores of independent variables too.
        clumps: parts of equal count for each bin, between which cuts are tried (EquicharClump);
            costs its square. A multiple of 6 has halves and thirds among the cuts: with 5, an
            evenly sampled sine of four periods loses 0.03.

    Returns:
        float64 ``(F,)``, from 0 to 1 for a noiseless function; 0 for a constant.

    Raises:
        UsageError: other shapes, fewer than two points, a value not finite, alpha outside (0, 1].
    """
    columns = _columns(features)
    if np.shape(target) != columns.shape[1:]:
        raise UsageError("mic: the target must be one number for each row of the features")
    if not 0 < alpha <= 1 or clumps < 1:
        raise UsageError("mic: alpha must be above 0 and at most 1, clumps at least 1")
    other = _ranks(_columns(np.asarray(target)[:, None]))
    n = columns.shape[1]
    budget = max(int(n**alpha + 1e-9), 4)
    best = np.zeros(len(columns))
    for block in _blocks(len(columns), max(n, (clumps + 1) * budget)):
        ranks = _ranks(columns[block])
        for cells in range(2, budget // 2 + 1):
            bins = min(cells, budget // cells)
            scale = np.log2(np.arange(2, bins + 1))[:, None]
            for fixed, free in ((other, ranks), (ranks, other)):
                cuts = free.cuts(clumps * bins)
                for rows in fixed.cells(cells):
                    found = _information(_counts(rows, free.order, cuts, cells), bins) / scale
                    best[block] = np.maximum(best[block], found.max(axis=0))
    return np.minimum(best, 1.0)


def mic_labels(
    features: Reals, labels: npt.NDArray[np.integer], *, bins: int = 8, clumps: int = 15
) -> Doubles:
    """Return how much each column of ``features`` ``(n, F)`` tells of the class.

    The largest over k = 2 … bins of the mutual information between the class and the best
    partition of the feature into at most k bins, over log min(k, classes). It depends on ranks
    only, and is the same to the bit when a feature is reversed or classes change their numbers.

    Args:
        features: real numbers ``(n, F)``.
        labels: class of each image ``(n,)``, any integers.
        bins: most bins of a feature.
        clumps: cuts are tried between clumps * bins parts of equal count; 15 as in the paper of
            2011. With no more distinct values than parts, the partition is the best of all.

    Returns:
        float64 ``(F,)`` from 0 to 1; 0 for a constant feature.

    Raises:
        UsageError: other shapes, fewer than two images, classes or bins, a value not finite.
    """
    columns = _columns(features)
    labels = np.asarray(labels)
    if labels.shape != columns.shape[1:] or labels.dtype.kind not in "iu":
        raise UsageError("mic: labels must be one integer for each row of the features")
    if bins < 2 or clumps < 1:
        raise UsageError("mic: bins must be at least 2, clumps at least 1")
    rows = np.unique(labels, return_inverse=True)[1]
    classes = int(rows.max()) + 1
    if classes < 2:
        raise UsageError("mic: at least two classes are needed")
    scale = np.log2(np.minimum(np.arange(2, bins + 1), classes))[:, None]
    best = np.zeros(len(columns))
    for block in _blocks(len(columns), max(len(labels), (clumps * bins + 2) * classes)):
        ranks = _ranks(columns[block])
        counts = _counts(rows[None], ranks.order, ranks.cuts(clumps * bins), classes)
        best[block] = (_information(counts, bins) / scale).max(axis=0)
    return np.minimum(best, 1.0)


def permutation_threshold(
    score: Score, n: int, *, level: float = 0.05, draws: int = 5000, seed: int = 0
) -> float:
    """Return what the score of an independent feature exceeds with a probability of ``level``.

    Scores depend on ranks only: independent features without ties share one distribution, given by
    n (``mic_e``) or the sizes of classes, and one threshold. With ties, fewer are above it::

        permutation_threshold(lambda x: mic_labels(x, labels), len(labels))
        permutation_threshold(lambda x: mic_e_many(x, np.arange(n)), n)

    Args:
        score: from features ``(n, F)`` to ``(F,)``, with the settings that will be used.
        n: rows.
        level: of one feature; of F independent ones, level * F pass on average.
        draws: random permutations. The share that passes is at most ``level`` on average (Phipson
            and Smyth 2010), with a standard deviation of sqrt(level * (1 - level) / draws).
        seed: of the permutations.

    Raises:
        UsageError: fewer than two rows, or too few draws for the level.
    """
    above = int(level * (draws + 1) + 1e-9)
    if n < 2 or not 0 < level < 1 or above < 1:
        raise UsageError("mic: at least two rows and 1 / level draws are needed, level below 1")
    random = np.random.default_rng(seed)
    scores = np.empty(draws)
    for block in _blocks(draws, n):
        ranks = np.tile(np.arange(float(n)), (len(scores[block]), 1))
        scores[block] = score(random.permuted(ranks, axis=1).T)
    return float(np.sort(scores)[-above])


def _columns(features: Reals) -> Reals:
    """Check ``(n, F)`` and return it as ``(F, n)``."""
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "fiu" or len(features) < 2:
        raise UsageError("mic: real numbers (n, F) are needed, of at least two rows")
    if not np.isfinite(features).all():
        raise UsageError("mic: a value is NaN or infinite; leave its feature or its row out")
    return features.T


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` features, each of ``size`` numbers, into pieces that fit the cache."""
    step = max(1, _BLOCK // size)
    return (slice(start, start + step) for start in range(0, count, step))


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Features as ranks. A cut at p divides the first p values, in order, from the rest.

    Attributes:
        order: ``(F, n)``, indices that sort each feature.
        below: ``(2, F, n + 1)``, the last cut at or before p that separates no equal values;
            [1] is that of the reversed feature.
        above: the same, the first one at or after p.
        sizes: ``(F, n)``, how often a value occurs, at its last place; 0 elsewhere.
    """

    order: Ints
    below: Ints
    above: Ints
    sizes: Ints

    def cuts(self, parts: int) -> Ints:
        """Cut into parts of about equal count; return places from 0 to n, ``(F, parts + 1)``.

        EquipartitionYAxis of the supplement of 2011: each part ends where ties end, nearest to its
        share of what is left. But parts are taken from both ends in turn, so that a reversed
        feature has the same cuts; an even number gives both candidates for the middle, one more.
        And a value with more than its share counts as one part, so that the rest is cut as finely
        as can be: with no more values than parts, each has its own.
        """
        n = self.order.shape[1]
        small, more = self.sizes, np.ones(1, bool)
        while more.any():
            shares = parts - (self.sizes > small).sum(axis=1, keepdims=True)
            more = small * shares > small.sum(axis=1, keepdims=True)
            small = np.where(more, 0, small)
        small_before, large_before = (
            np.pad(a.cumsum(axis=1), ((0, 0), (1, 0))) for a in (small, self.sizes > small)
        )
        each, both = np.arange(len(small)), np.arange(2)[:, None]
        low = np.zeros((2, len(small)), np.int64)  # how many are taken from either end
        found = [low[0], low[0] + n]
        for left in range(parts, 1, -2):
            start, end = low[0], n - low[1]
            points = small_before[each, end] - small_before[each, start]
            shares = left - (large_before[each, end] - large_before[each, start])
            points, shares = np.where(shares > 0, points, 0), np.maximum(shares, 1)
            near = low + points // shares
            before = self.below[both, each, near]
            after = self.above[both, each, np.minimum(near + 1, n)]
            closer = 2 * (low * shares + points) <= (before + after) * shares
            least = self.above[both, each, np.minimum(low + 1, n)]
            taken = np.maximum(np.where(closer, before, after), least)
            found += [np.minimum(taken[0], end), np.maximum(n - taken[1], start)]
            # Where the ends have passed each other nothing is left.
            low = np.where(taken.sum(axis=0) > n, np.stack([end, low[1]]), taken)
        return np.sort(np.stack(found, axis=1), axis=1)

    def cells(self, count: int) -> list[Ints]:
        """Return the part of each value, ``(F, n)``; twice if the middle fits either side."""
        cuts = self.cuts(count)
        drop = [] if count % 2 else [count // 2, count // 2 + 1]
        chosen = [np.delete(cuts, i, axis=1) for i in drop] or [cuts]
        found = [np.empty_like(self.order) for _ in chosen]
        for rows, choice in zip(found, chosen, strict=True):
            np.put_along_axis(rows, self.order, _parts(choice, rows.shape[1]), axis=1)
        return found[:1] if np.array_equal(chosen[0], chosen[-1]) else found


def _ranks(columns: Reals) -> _Ranks:
    """Sort ``(F, n)`` and find the ties."""
    order = np.argsort(columns, axis=1)
    values = np.take_along_axis(columns, order, axis=1)
    count, n = values.shape
    free = np.ones((count, n + 1), bool)
    free[:, 1:-1] = values[:, 1:] != values[:, :-1]
    places = np.arange(n + 1)
    below = np.maximum.accumulate(np.where(free, places, 0), axis=1)
    above = np.minimum.accumulate(np.where(free, places, n)[:, ::-1], axis=1)[:, ::-1]
    return _Ranks(
        order,
        np.stack([below, n - above[:, ::-1]]),
        np.stack([above, n - below[:, ::-1]]),
        np.where(free[:, 1:], places[1:] - below[:, :-1], 0),
    )


def _parts(cuts: Ints, n: int) -> Ints:
    """Return in which part each place lies: ``(F, C)`` to ``(F, n)``."""
    offsets = np.arange(len(cuts))[:, None] * (n + 1)
    marks = np.bincount((cuts[:, 1:-1] + offsets).reshape(-1), minlength=len(cuts) * (n + 1))
    return marks.reshape(len(cuts), n + 1).cumsum(axis=1)[:, :n]


def _counts(rows: Ints, order: Ints, cuts: Ints, cells: int) -> Ints:
    """Count the points of each cell before each cut: ``(C, cells, F)``, for whole rows to be added.

    The cell of each point is given in ``rows`` ``(F, n)``, the order of points along the other axis
    in ``order`` ``(F, n)``, its cuts in ``cuts`` ``(F, C)``. In each of the three F may be 1.
    """
    cell = np.take_along_axis(rows, order, axis=1)
    count, n = cell.shape
    shape = (cuts.shape[1] - 1, cells, count)
    index = (_parts(cuts, n) * cells + cell) * count + np.arange(count)[:, None]
    within = np.bincount(index.reshape(-1), minlength=int(np.prod(shape))).reshape(shape)
    return np.pad(within.cumsum(axis=0), ((1, 0), (0, 0), (0, 0)))


def _information(counts: Ints, bins: int) -> Doubles:
    """Return the mutual information of the best partitions into at most 2 … ``bins`` bins.

    From counts ``(C, cells, F)`` to float64 ``(bins - 1, F)``, in bits.
    """
    places = counts.sum(axis=1)  # (C, F)
    n = int(places[-1, 0])
    g = np.arange(n + 1) * np.log2(np.maximum(np.arange(n + 1), 1))
    # No sum exceeds twice g(n). 2 ** -32 is far below what shows in a score.
    unit = 2.0 ** min(32, 61 - int(g[-1]).bit_length())
    table = np.rint(g * unit).astype(np.int64)
    best = np.zeros((bins, *places.shape), np.int64)  # [b, t]: up to cut t, at most b + 1 bins
    for t in range(1, len(counts)):
        score = table[counts[t] - counts[:t]].sum(axis=1)  # (t, F): of a bin from each cut to t
        score -= table[places[t] - places[:t]]
        best[0, t] = score[0]
        best[1:, t] = (best[:-1, :t] + score).max(axis=1)
    information = best[1:, -1] + table[n] - table[counts[-1]].sum(axis=0)
    scores: Doubles = np.maximum(information, 0) / (n * unit)
    return scores
