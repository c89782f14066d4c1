"""What candidates answered: raw answers and figures of a run of ``edge-fgr bench``.

Shares are 0 to 1. Figures come with their 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge_fgr.contract import Label

__all__ = [
    "Accuracy",
    "Cell",
    "Flip",
    "Judged",
    "Pair",
    "Robustness",
    "Same",
    "Share",
    "Worst",
]


@dataclass(frozen=True, slots=True)
class Share:
    """A figure and its 95 % interval. Units as where it stands; shares are 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Worst:
    """The class that is recognised least often."""

    label: Label
    share: Share
    images: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One candidate's answers.

    Attributes:
        key: of the candidate.
        images: labelled images of classes that it knows; where there are none, all figures are
            None but ``unknown``.
        left_out: labelled images of classes that it does not know.
        top1, top5: right answers.
        macro: mean over the classes of the share of right answers.
        coarse: right by the first part of the label path (the first two where there are three);
            None for flat labels.
        ece: expected calibration error, 15 bins (Guo et al., ICML 2017).
        worst: the class with the lowest share.
        unknown: of all images, those it calls unknown; None where the model has no such threshold.
        best: for each image, the place of the answer among its labels.
        probability: of that answer.
        strange: places of the images that it calls unknown.
        error: why it ended early.
    """

    key: str
    images: int
    left_out: int
    top1: Share | None = None
    top5: Share | None = None
    macro: Share | None = None
    coarse: Share | None = None
    ece: Share | None = None
    worst: Worst | None = None
    unknown: Share | None = None
    best: tuple[int, ...] = ()
    probability: tuple[float, ...] = ()
    strange: tuple[int, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Flip:
    """An image that two candidates name differently.

    Attributes:
        image: its place among the names.
        a, b: the answers.
        a_probability, b_probability: by each one's own temperature.
        outcome: of the second; empty where the truth is not known.
        picture: a small JPEG as a ``data:`` URI; empty where there are too many.
    """

    image: int
    a: Label
    b: Label
    a_probability: float
    b_probability: float
    outcome: Literal["lost", "won", "both wrong", ""]
    picture: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates with the same classes, on all images.

    Attributes:
        a, b: keys; the first is what the second is compared with.
        images: how many.
        agreement: one label from both.
        labelled: how many have a truth that both know.
        lost, won: only the first was right; only the second was.
        p: two-sided exact test of McNemar (1947); None without truths.
        drop: top-1 of the first less that of the second, -1 to 1; None without truths.
        largest: largest difference of a logit.
        flips: the images with two labels, the most certain first.
    """

    a: str
    b: str
    images: int
    agreement: Share
    labelled: int
    lost: int
    won: int
    p: float | None
    drop: Share | None
    largest: float
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Answers of all candidates.

    Attributes:
        names: of the images.
        truths: of the images; an empty path where it is not known.
    """

    names: tuple[str, ...]
    truths: tuple[Label, ...]
    judged: tuple[Judged, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate on one corruption. ``severity`` 0, ``none``, is the same images as they are.

    Attributes:
        right: None without truths.
        unknown: None where the model has no such threshold.
    """

    key: str
    corruption: str
    severity: int
    images: int
    right: int | None
    unknown: int | None


@dataclass(frozen=True, slots=True)
class Same:
    """How many labels of two candidates are equal on one corruption, of ``images``."""

    a: str
    b: str
    corruption: str
    severity: int
    images: int
    same: int


@dataclass(frozen=True, slots=True)
class Robustness:
    """What corruptions cost.

    Attributes:
        images: for each corruption and severity.
        groups: group of each corruption, by name, in the order of the report.
        cells: what was counted.
        same: the same of pairs.
    """

    images: int
    groups: Mapping[str, str]
    cells: tuple[Cell, ...]
    same: tuple[Same, ...]
