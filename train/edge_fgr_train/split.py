"""Divide labelled photographs into splits: by class, near-duplicates together, in a fixed way."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product

from edge_fgr.contract import Label
from edge_fgr_train.dataset import Sample

__all__ = ["split"]

# Not sklearn's StratifiedGroupKFold: its folds are of equal size, their draw depends on the order
# of the samples, an image more in one class moves all others, and a small class may miss a fold.

_Groups = list[list[Sample]]


def split(
    samples: Sequence[Sample], groups: Sequence[int], shares: Mapping[str, float], seed: int
) -> list[Sample]:
    """Return the samples with new splits, sorted by name; any order of them gives the same.

    Each class comes as close to its shares as moving and swapping whole groups brings it. As long
    as it has enough groups, each split gets at least one, the first split before all. A class is
    divided by itself: none of its images moves when another class gains some. A group that spans
    classes goes to the first split: labels that contradict each other are nothing to judge by.

    Args:
        samples: N of them, names unique.
        groups: a number for each; equal numbers stay together.
        shares: for each split its share of the images, above 0; together 1.
        seed: another number, another draw.
    """
    together: dict[int, list[Sample]] = defaultdict(list)
    for sample, group in sorted(zip(samples, groups, strict=True)):
        together[group].append(sample)
    fixed: dict[Label, int] = defaultdict(int)
    classes: dict[Label, _Groups] = defaultdict(list)
    first = next(iter(shares))
    parts: dict[str, str] = {}
    for members in together.values():
        if len({sample.label for sample in members}) == 1:
            classes[members[0].label].append(members)
        else:
            for sample in members:
                fixed[sample.label] += 1
                parts[sample.name] = first
    for label, own in classes.items():
        for name, chosen in _divide(own, shares, seed, fixed[label]).items():
            parts |= {sample.name: name for members in chosen for sample in members}
    return sorted(replace(sample, split=parts[sample.name]) for sample in samples)


def _divide(
    groups: _Groups, shares: Mapping[str, float], seed: int, fixed: int
) -> dict[str, _Groups]:
    """Divide the groups of one class; the first split holds ``fixed`` images already.

    The largest first, each where most is missing; among equals a hash decides.
    """

    def draw(members: list[Sample]) -> tuple[int, bytes]:
        text = f"{seed}\0{members[0].name}"
        return -len(members), hashlib.sha256(text.encode()).digest()

    whole = fixed + sum(map(len, groups))
    missing = {name: share * whole for name, share in shares.items()}
    first = next(iter(shares))
    missing[first] -= fixed
    chosen: dict[str, _Groups] = {name: [] for name in shares}
    for i, members in enumerate(sorted(groups, key=draw)):
        empty = [name for name in shares if not chosen[name] and not (name == first and fixed)]
        open_ = empty if len(groups) - i <= len(empty) else list(shares)
        name = first if first in open_ and open_ is empty else max(open_, key=missing.__getitem__)
        chosen[name].append(members)
        missing[name] -= len(members)
    while _improve(chosen, missing):
        pass
    return chosen


def _improve(chosen: dict[str, _Groups], missing: dict[str, float]) -> bool:
    """Move one group, or swap two, so that the shares are met best; False if none helps."""
    best, step = 1e-9, None
    for giver, taker in permutations(chosen, 2):
        for out, back in product(_sizes(chosen[giver]), [0, *_sizes(chosen[taker])]):
            gain = abs(missing[giver]) - abs(missing[giver] + out - back)
            gain += abs(missing[taker]) - abs(missing[taker] - out + back)
            if gain > best and (back or len(chosen[giver]) > 1):
                best, step = gain, (giver, taker, out, back)
    if step is None:
        return False
    giver, taker, out, back = step
    for source, target, size in ((giver, taker, out), (taker, giver, back)):
        if size:
            place = max(i for i, members in enumerate(chosen[source]) if len(members) == size)
            chosen[target].append(chosen[source].pop(place))
            missing[source] += size
            missing[target] -= size
    return True


def _sizes(groups: _Groups) -> list[int]:
    return sorted({len(members) for members in groups})
