"""Which pictures are near-duplicates, over all classes and splits of a hundred thousand.

A near perceptual hash alone is no proof: among 100,000 photos 5·10⁹ pairs may agree by chance, and
whatever stands before one background or under one lamp agrees by that. So ``link`` asks for a
second witness, the correlation of the pictures' detail (``Prints.details``). Its two thresholds
were chosen by looking at the pairs of four data sets whose hashes differ in at most 10 bits:

- Pictures of two classes: 0.85. True pairs (a magnet tile or a flower under two names) have 0.90 to
  1.00, all but one; the highest false ones 0.83 (two tiles under one lamp), 0.60 (two products in
  one hand) and 0.50 (two flowers). Correlation of the plain thumbnails gives 0.98 to two tiles.
- Pictures of one class: 0.6. Accidents are rarer there, and second shots and other exposures of one
  scene reach down to that: 901 of 936 such pairs of tiles pass, and some tiles under one lamp too.

Found by this, of changed copies of 32 photos: all after recompression, scaling, blur, a change of
brightness or one degree of turn; 31 after a cut of 2 % from each side, 4 after one of 5 %.
Mirrored copies and quarter turns are not looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_fgr.progress import progress
from edge_fgr_train.fingerprint import Ints, Prints

__all__ = ["DISTANCE", "Links", "link", "near", "unite"]

_Mask: TypeAlias = npt.NDArray[np.bool_]

DISTANCE = 10
"""Two 64-bit hashes that differ in at most so many bits may belong to near-duplicates."""

_ONE_CLASS, _TWO_CLASSES = 0.6, 0.85
"""Least correlation of the details of near-duplicates."""

_MOST = 256
"""Candidates whose detail is compared with one picture's: those with the nearest hashes."""


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Near-duplicates among N samples, each int64 ``(N,)``.

    Attributes:
        groups: a number per group, the same for all that single linkage joins.
        conflicts: index of a near-duplicate that stands in another class, or -1. Of a pair of
            samples one has the other's; identical bytes come before what merely looks alike.
        leaks: index of a near-duplicate that stands in an earlier split, or -1.
    """

    groups: Ints
    conflicts: Ints
    leaks: Ints


def near(
    hashes: npt.NDArray[np.uint64],
    wanted: Callable[[int], _Mask] | None = None,
    distance: int = DISTANCE,
) -> Iterator[tuple[int, Ints, npt.NDArray[np.uint8]]]:
    """Yield ``(i, others, distances)`` for all ``others > i`` within ``distance`` bits of i.

    Streams a row at a time: memory is a few bytes a hash, never a pair.

    Args:
        hashes: uint64 ``(N,)``.
        wanted: given i, says which of ``i + 1 …`` still matter; asked only where some are near.
        distance: in bits.
    """
    different = np.empty(len(hashes), np.uint64)
    distances = np.empty(len(hashes), np.uint8)
    for i in range(len(hashes) - 1):
        rest = len(hashes) - i - 1
        np.bitwise_xor(hashes[i + 1 :], hashes[i], out=different[:rest])
        np.bitwise_count(different[:rest], out=distances[:rest])
        close = distances[:rest] <= distance
        if not close.any():
            continue
        if wanted is not None:
            close &= wanted(i)
        found = np.flatnonzero(close)
        if found.size:
            yield i, found + (i + 1), distances[found]


def unite(root: Ints, i: int, others: Ints) -> None:
    """Join the groups of ``others`` with that of i; ``root`` names each group by its lowest."""
    for other in np.unique(root[others]):
        low, high = sorted((root[i], other))
        if low != high:
            root[root == high] = low


def link(prints: Prints, classes: Sequence[int], splits: Sequence[int]) -> Links:
    """Find near-duplicates: identical bytes, or near hashes and agreeing detail.

    A pair that would tell nothing new (one group, class and split) is passed over: a hundred
    thousand copies of one picture cost a row each, not a pair each. Of a picture with more than
    ``_MOST`` near hashes behind it only the nearest are looked at.

    Args:
        prints: of N samples; a file that could not be read has no detail, and stays alone.
        classes: a number per class, length N.
        splits: a number per split, the one to train on lowest, length N.
    """
    order = np.argsort(splits, kind="stable")
    details = prints.details[order]  # (N, 256) int8; as floats they would be the most of it all
    lengths = np.sqrt(np.einsum("ij,ij->i", details, details, dtype=np.float32))
    state = _State(np.asarray(classes)[order], np.asarray(splits)[order], lengths > 0)
    state.join_copies(prints.contents[order])
    done = 0
    with progress(len(order), "compare") as advance:
        for i, others, distances in near(prints.hashes[order], state.wanted):
            if len(others) > _MOST:
                others = np.sort(others[np.argpartition(distances, _MOST)[:_MOST]])  # noqa: PLW2901
            alike = details[others].astype(np.float32) @ details[i]
            alike /= lengths[others] * lengths[i]
            one = state.classes[others] == state.classes[i]
            state.join(i, others[alike >= np.where(one, _ONE_CLASS, _TWO_CLASSES)])
            advance(i - done, "")
            done = i
        advance(len(order) - done, "")
    back = np.argsort(order)
    pointers = (np.where(i >= 0, order[i], -1)[back] for i in (state.conflicts, state.leaks))
    return Links(order[state.root][back], *pointers)


class _State:
    """What is known so far; samples stand in the order of their splits."""

    def __init__(self, classes: Ints, splits: Ints, telling: _Mask) -> None:
        self.classes, self.splits, self._telling = classes, splits, telling
        self.root = np.arange(len(classes))
        self.conflicts = np.full(len(classes), -1)
        self.leaks = np.full(len(classes), -1)

    def wanted(self, i: int) -> _Mask:
        """Which samples behind i would tell something new if they were near-duplicates of it."""
        behind = slice(i + 1, None)
        if not self._telling[i]:
            return np.zeros(len(self.root) - i - 1, np.bool_)
        new = self.root[behind] != self.root[i]
        new |= (self.classes[behind] != self.classes[i]) & (self.conflicts[behind] < 0)
        new |= (self.splits[behind] != self.splits[i]) & (self.leaks[behind] < 0)
        wanted: _Mask = new & self._telling[behind]
        return wanted

    def join(self, i: int, others: Ints) -> None:
        """Note that ``others``, all behind i, are near-duplicates of it."""
        unite(self.root, i, others)
        for kinds, found in ((self.classes, self.conflicts), (self.splits, self.leaks)):
            found[others[(kinds[others] != kinds[i]) & (found[others] < 0)]] = i

    def join_copies(self, contents: Ints) -> None:
        """Join identical bytes: each with the first of every class and split among them."""
        copies: dict[int, list[int]] = defaultdict(list)
        for i, content in enumerate(contents.tolist()):
            copies[content].append(i)
        for members in copies.values():
            if len(members) > 1:
                heads = {(self.classes[i], self.splits[i]): i for i in reversed(members)}
                for head in sorted(heads.values()):
                    self.join(head, np.array([i for i in members if i > head], np.int64))
