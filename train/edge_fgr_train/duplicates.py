"""Near-duplicates by perceptual hash, and a hold-out split that keeps their groups together.

``python -m edge_fgr_train.duplicates DATA -o LIST --splits train,val --per-class 3`` writes a list
of files, the same on every run.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import imagehash
import numpy as np

from edge_fgr.contract import Geometry
from edge_fgr.files import atomic_write
from edge_fgr.image import read
from edge_fgr_train.dataset import Sample, scan

__all__ = ["groups_of", "hold_out"]

_DISTANCE = 10
"""Two 64-bit hashes that differ in at most so many bits belong to near-duplicates."""


def groups_of(samples: Sequence[Sample]) -> list[int]:
    """Return a group number for each sample; near-duplicates of one class share it.

    Perceptual hash of the low DCT frequencies (imagehash.phash), joined by single linkage.
    """
    geometry = Geometry(size=64)
    hashes = np.array(
        [imagehash.phash(read(s.path, geometry)).hash.reshape(-1) for s in samples], dtype=np.uint8
    )
    root = list(range(len(samples)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for i, sample in enumerate(samples):
        near = np.flatnonzero((hashes[:i] != hashes[i]).sum(axis=1) <= _DISTANCE)
        for j in near.tolist():
            if samples[j].label == sample.label:
                root[find(i)] = find(j)
    return [find(i) for i in range(len(samples))]


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
