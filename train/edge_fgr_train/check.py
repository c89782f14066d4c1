"""What is wrong with labelled photographs, before a day of training finds out."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edge_fgr.contract import Label
from edge_fgr.errors import EdgeFgrError
from edge_fgr_train.dataset import Dataset, Sample, labels_of, targets_of
from edge_fgr_train.fingerprint import prints_of
from edge_fgr_train.links import link

__all__ = ["Findings", "Part", "Twins", "Unreadable", "check"]


@dataclass(frozen=True, slots=True)
class Part:
    """Class sizes of a split, or of all data where it has none (``split`` is empty then).

    Attributes:
        counts: images of each class of the whole dataset, 0 where the split has none.
        evenness: entropy of the class sizes over that of equal ones; 1 is balanced.
    """

    split: str
    counts: dict[Label, int]
    evenness: float

    @property
    def largest(self) -> tuple[Label, int]:
        """The largest class and its size."""
        return max(self.counts.items(), key=lambda entry: entry[1])

    @property
    def smallest(self) -> tuple[Label, int]:
        """The smallest class that has an image, and its size."""
        return min((e for e in self.counts.items() if e[1]), key=lambda entry: entry[1])

    def of_size(self, size: int) -> list[Label]:
        """Return the classes with so many images."""
        return [label for label, count in self.counts.items() if count == size]


@dataclass(frozen=True, slots=True)
class Twins:
    """Two near-duplicates that should not be: ``first`` comes earlier in the data."""

    first: Sample
    second: Sample
    identical: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read whole as one image."""

    sample: Sample
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that ``check`` saw.

    Attributes:
        origin: what was checked.
        parts: class sizes, a split each.
        problems: what ``open_dataset`` would refuse, such as empty classes, a line each.
        unreadable: files that could not be read.
        conflicts: near-duplicates in different classes; each image of such a pair but the first
            has an entry.
        leaks: near-duplicates in different splits; each image with one in an earlier split has
            an entry.
        groups: near-duplicates inside one split, at least two each.
        untrained: classes that stand in some split but not in the first.
    """

    origin: str
    parts: tuple[Part, ...]
    problems: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]
    conflicts: tuple[Twins, ...]
    leaks: tuple[Twins, ...]
    groups: tuple[tuple[Sample, ...], ...]
    untrained: tuple[Label, ...]


def check(dataset: Dataset, problems: Sequence[EdgeFgrError] = ()) -> Findings:
    """Read every file of a dataset and compare all with all.

    Args:
        dataset: what ``survey_dataset`` returned,
        problems: and with it.
    """
    samples, labels = dataset.samples, labels_of(dataset.samples)
    prints = prints_of(samples)
    splits = {split: i for i, split in enumerate(dataset.splits or ("",))}
    links = link(prints, targets_of(samples, labels), [splits[s.split] for s in samples])

    def twins(pointers: Sequence[int]) -> tuple[Twins, ...]:
        same = prints.contents
        return tuple(
            Twins(samples[j], samples[i], bool(same[i] == same[j]))
            for i, j in enumerate(pointers)
            if j >= 0
        )

    groups: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample, group in zip(samples, links.groups.tolist(), strict=True):
        groups[splits[sample.split], group].append(sample)
    parts = tuple(_part(split, samples, labels) for split in splits)
    return Findings(
        origin=dataset.origin,
        parts=parts,
        problems=tuple(map(str, problems)),
        unreadable=tuple(
            Unreadable(samples[i], error.kind, str(error)) for i, error in prints.failures.items()
        ),
        conflicts=twins(links.conflicts.tolist()),
        leaks=twins(links.leaks.tolist()),
        groups=tuple(tuple(groups[key]) for key in sorted(groups) if len(groups[key]) > 1),
        untrained=tuple(parts[0].of_size(0)),
    )


def _part(split: str, samples: Sequence[Sample], labels: Sequence[Label]) -> Part:
    found = Counter(sample.label for sample in samples if sample.split == split)
    total = found.total()
    entropy = -sum(n / total * math.log(n / total) for n in found.values())
    evenness = entropy / math.log(len(found)) if len(found) > 1 else 1.0
    return Part(split, {label: found[label] for label in labels}, evenness)
