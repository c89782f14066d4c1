"""A hold-out list that keeps near-duplicates together.

``python -m edge_fgr_train.duplicates DATA -o LIST --splits train,val --per-class 3`` writes a list
of files, the same on every run.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.files import atomic_write
from edge_fgr_train.dataset import Sample, scan
from edge_fgr_train.fingerprint import Ints, prints_of
from edge_fgr_train.links import DISTANCE, near, unite

__all__ = ["groups_of", "hold_out"]


def groups_of(samples: Sequence[Sample], distance: int = DISTANCE) -> list[int]:
    """Return a group number for each sample; near-duplicates of one class share it.

    By perceptual hash alone, joined by single linkage: for keeping images together, where one
    pair too many does no harm.

    Args:
        samples: with files to read.
        distance: hashes of near-duplicates differ in at most so many of 64 bits.

    Raises:
        ImageError, InputMissingError, PermissionDeniedError: a file could not be read.
    """
    prints = prints_of(samples)
    for error in prints.failures.values():
        raise error
    classes: dict[object, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        classes[sample.label].append(i)
    groups = np.arange(len(samples))
    for members in classes.values():
        groups[members] = np.array(members)[_joined(prints.hashes[members], distance)]
    return [int(group) for group in groups]


def _joined(hashes: npt.NDArray[np.uint64], distance: int) -> Ints:
    root = np.arange(len(hashes))
    for i, others, _ in near(hashes, lambda i: root[i + 1 :] != root[i], distance):
        unite(root, i, others)
    return root


def hold_out(samples: Sequence[Sample], per_class: int) -> list[Sample]:
    """Choose whole near-duplicate groups of each class until ``per_class`` images are reached.

    Groups come in the order of a hash of their first name: no seed, and the choice of one class
    does not change when another gains an image. A group of more than a quarter of its class is
    passed over.
    """
    classes: dict[object, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample, group in zip(samples, groups_of(samples), strict=True):
        classes[sample.label][group].append(sample)
    chosen: list[Sample] = []
    for groups in classes.values():
        size = sum(map(len, groups.values()))
        order = sorted(
            (members for members in groups.values() if len(members) <= max(per_class, size // 4)),
            key=lambda members: hashlib.sha256(members[0].name.encode()).digest(),
        )
        count = 0
        for members in order:
            if count >= per_class:
                break
            chosen += members
            count += len(members)
    return sorted(chosen)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the list; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--splits", default="train")
    parser.add_argument("--per-class", type=int, default=3)
    options = parser.parse_args(arguments)
    chosen = hold_out(scan(options.data, options.splits.split(",")), options.per_class)
    head = (
        f"# {len(chosen)} images kept out of training: at least {options.per_class} a class, "
        "near-duplicates together.\n# Written by python -m edge_fgr_train.duplicates.\n"
    )
    atomic_write(options.output, head + "".join(f"{sample.name}\n" for sample in chosen))


if __name__ == "__main__":
    main()
