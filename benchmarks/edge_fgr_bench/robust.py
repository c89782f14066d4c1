"""What corruptions cost each candidate, and how far two of one class list stay equal under them.

Pictures are corrupted as the network sees them: after ``edge_fgr.image.load``, in the square of its
own size, with strengths that scale with that size. Candidates of one geometry get the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import progress
from edge_fgr_bench.answers import Cell, Robustness, Same
from edge_fgr_bench.bench_images import Pool, spread
from edge_fgr_bench.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from edge_fgr_bench.seats import Answers, Seat, answer_all

if TYPE_CHECKING:
    from edge_fgr.image import Pixels

__all__ = ["CLEAN", "corrupted", "loaded", "places_of", "truths_of"]

CLEAN = "none"
"""The name of no corruption, in cells of severity 0."""


def corrupted(seats: Sequence[Seat], pool: Pool, images: int, seed: int) -> Robustness:
    """Ask every candidate about corrupted images.

    Args:
        seats: the candidates. One that fails has no cells from there on.
        pool: where the images come from; labelled ones of classes that a candidate knows count.
        images: so many, evenly spread.
        seed: of the corruptions; each image has its own.
    """
    chosen = places_of(seats, pool, images)
    clean = {
        geometry: loaded(pool, chosen, geometry)
        for geometry in {seat.contract.geometry for seat in seats}
    }
    truths = [truths_of(seat, pool, chosen) for seat in seats]
    cells: list[Cell] = []
    same: list[Same] = []
    steps = [(CLEAN, 0)] + [(c.name, severity) for c in CORRUPTIONS for severity in SEVERITIES]
    with progress(len(steps) * len(chosen), "bench: robustness") as advance:
        for name, severity in steps:

            def make(geometry: Geometry, i: int, name: str = name, level: int = severity) -> Pixels:
                pixels = clean[geometry][i]
                return corrupt(pixels, name, level, seed + chosen[i]) if level else pixels

            answers = answer_all(seats, make, len(chosen), advance)
            cells += [
                _cell(seat, one, truth, name, severity)
                for seat, one, truth in zip(seats, answers, truths, strict=True)
                if one is not None
            ]
            same += _same(seats, answers, name, severity)
    groups = {one.name: one.group for one in CORRUPTIONS}
    return Robustness(len(chosen), groups, tuple(cells), tuple(same))


def places_of(seats: Sequence[Seat], pool: Pool, images: int) -> list[int]:
    """Return the places of at most ``images`` images of known classes, evenly spread.

    Where no candidate knows the class of any, they are spread over all.
    """
    labels = {label for seat in seats for label in seat.contract.labels}
    known = [i for i, truth in enumerate(pool.truths) if truth in labels]
    places = known or list(range(len(pool.paths)))
    return [places[i] for i in spread(len(places), images)]


def loaded(pool: Pool, chosen: Sequence[int], geometry: Geometry) -> list[Pixels]:
    """Return the pixels of the chosen images, uint8 ``(size, size, 3)`` each."""
    return list(ordered_map(lambda i: load(pool.paths[i], geometry), chosen, cores()))


def truths_of(seat: Seat, pool: Pool, chosen: Sequence[int]) -> npt.NDArray[np.intp] | None:
    """Return the place of each truth among a candidate's labels; None unless it knows all."""
    known = {label: i for i, label in enumerate(seat.contract.labels)}
    found = [known.get(pool.truths[i], -1) for i in chosen]
    return np.array(found, np.intp) if -1 not in found else None


def _cell(
    seat: Seat, answers: Answers, truth: npt.NDArray[np.intp] | None, name: str, severity: int
) -> Cell:
    right = None if truth is None else int((answers.logits.argmax(axis=1) == truth).sum())
    strange = None if answers.strange is None else int(answers.strange.sum())
    return Cell(seat.candidate.key, name, severity, len(answers.logits), right, strange)


def _same(
    seats: Sequence[Seat], answers: Sequence[Answers | None], name: str, severity: int
) -> list[Same]:
    """Return how often each pair of one class list gives the same label."""
    found = []
    for (a, one), (b, two) in combinations(zip(seats, answers, strict=True), 2):
        if one is None or two is None or a.contract.labels != b.contract.labels:
            continue
        equal = int((one.logits.argmax(axis=1) == two.logits.argmax(axis=1)).sum())
        keys = a.candidate.key, b.candidate.key
        found.append(Same(*keys, name, severity, len(one.logits), equal))
    return found
