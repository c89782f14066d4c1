"""A few images of each class, drawn: the same ones at every call, and near-duplicates last.

The order of a class depends on the seed and the images' names alone: a draw of five holds the draw
of two, and the draw of one class does not change when another gains an image.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from edge_fgr.contract import Label
from edge_fgr.errors import UsageError
from edge_fgr_train.dataset import Sample
from edge_fgr_train.duplicates import groups_of

__all__ = ["draw_shots"]


def draw_shots(samples: Sequence[Sample], shots: int, seed: int = 0) -> list[Sample]:
    """Draw ``shots`` images of each class, in the order of ``samples``.

    Of near-duplicates (``edge_fgr_train.duplicates.groups_of``) one is drawn before the second of
    any: two photographs of one scene tell less than two scenes.

    Args:
        samples: files that can be read.
        shots: at least 1.
        seed: of the draw.

    Raises:
        UsageError: fewer than one is asked for, or more than a class has.
        ImageError, InputMissingError, PermissionDeniedError: a file could not be read.
    """
    if shots < 1:
        raise UsageError(f"--shots {shots}: at least one image of each class is needed")
    counts: dict[Label, int] = defaultdict(int)
    for sample in samples:
        counts[sample.label] += 1
    for label, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        if count < shots:
            raise UsageError(
                f"--shots {shots}: {'/'.join(label)} has {count} images to fit; give at most "
                f"{count}, or add photographs"
            )
    classes: dict[Label, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample, group in zip(samples, groups_of(samples), strict=True):
        classes[sample.label][group].append(sample)
    chosen: set[str] = set()
    for groups in classes.values():
        ranked = []
        for members in groups.values():
            members.sort(key=lambda sample: _place(sample, seed))
            ranked += [(turn, _place(one, seed), one.name) for turn, one in enumerate(members)]
        chosen |= {name for _, _, name in sorted(ranked)[:shots]}
    return [sample for sample in samples if sample.name in chosen]


def _place(sample: Sample, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{sample.name}".encode()).digest()
