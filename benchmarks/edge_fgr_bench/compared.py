"""Accuracy of each candidate and agreement of each pair on the images of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label
from edge_fgr.decision import best, probabilities, roll_up
from edge_fgr.errors import EdgeFgrError
from edge_fgr.image import load
from edge_fgr.progress import progress
from edge_fgr_bench.answers import Accuracy, Flip, Judged, Pair, Share, Worst
from edge_fgr_bench.bench_images import Pool
from edge_fgr_bench.estimates import calibration, difference, macro
from edge_fgr_bench.seats import Answers, Seat, answer_all
from edge_fgr_bench.summary import wilson
from edge_fgr_export.verify import UNKNOWN, verdict_of
from edge_fgr_train.pages import data_uri

__all__ = ["compare"]

_PICTURES, _SIDE = 24, 160
"""Pictures of flipped images for each pair, and their side in pixels."""


def compare(seats: Sequence[Seat], pool: Pool) -> Accuracy:
    """Ask every candidate about every image.

    A candidate that fails says so in its ``Judged.error``; the others are judged all the same.
    """
    with progress(len(pool.paths), "bench: accuracy") as advance:
        answers = answer_all(
            seats, lambda geometry, i: load(pool.paths[i], geometry), len(pool.paths), advance
        )
    judged = [_judge(seat, one, pool.truths) for seat, one in zip(seats, answers, strict=True)]
    pairs = [
        _pair((a, first), (b, second), pool)
        for (a, first), (b, second) in combinations(zip(seats, answers, strict=True), 2)
        if first and second and {*a.contract.labels} == {*b.contract.labels}
    ]
    return Accuracy(pool.names, pool.truths, tuple(judged), tuple(pairs))


def _judge(seat: Seat, answers: Answers | None, truths: Sequence[Label]) -> Judged:
    key, contract = seat.candidate.key, seat.contract
    if answers is None:
        return Judged(key, 0, 0, error=seat.error)
    values = probabilities(answers.logits, contract.temperature)
    chosen, places = values.argmax(axis=1), _places(truths, contract.labels)
    known = places != UNKNOWN
    strange = answers.strange
    common = Judged(
        key=key,
        images=int(known.sum()),
        left_out=sum(bool(truth) for truth in truths) - int(known.sum()),
        unknown=None if strange is None else wilson(int(strange.sum()), len(strange)),
        best=tuple(chosen.tolist()),
        probability=tuple(values.max(axis=1).round(4).tolist()),
        strange=() if strange is None else tuple(np.flatnonzero(strange).tolist()),
    )
    if not known.any():
        return common
    return _scored(common, values[known], places[known], contract.labels)


def _scored(
    common: Judged,
    values: npt.NDArray[np.floating],
    places: npt.NDArray[np.intp],
    labels: Sequence[Label],
) -> Judged:
    count, right = len(places), values.argmax(axis=1) == places
    five = sum(int(place) in best(row, 5) for row, place in zip(values, places, strict=True))
    depth, coarse = max(map(len, labels)) - 1, None
    if depth:
        names, sums = roll_up(values, labels, depth)
        truths = np.array([names.index(labels[place][:depth]) for place in places])
        coarse = wilson(int((sums.argmax(axis=1) == truths).sum()), count)
    return replace(
        common,
        top1=wilson(int(right.sum()), count),
        top5=wilson(five, count),
        macro=macro(right, places),
        coarse=coarse,
        ece=calibration(values.max(axis=1).astype(np.float64), right),
        worst=_worst(right, places, labels),
    )


def _worst(
    right: npt.NDArray[np.bool_], places: npt.NDArray[np.intp], labels: Sequence[Label]
) -> Worst:
    """Return the class of the lowest share; of several that of most images, then the first name."""
    totals = np.bincount(places, minlength=len(labels))
    hits = np.bincount(places[right], minlength=len(labels))
    seen = np.flatnonzero(totals)
    place = min(seen.tolist(), key=lambda i: (hits[i] / totals[i], -totals[i], labels[i]))
    share = wilson(int(hits[place]), int(totals[place]))
    return Worst(labels[place], share, int(totals[place]))


def _pair(first: tuple[Seat, Answers], second: tuple[Seat, Answers], pool: Pool) -> Pair:
    (a, known), (b, given) = first, second
    labels = a.contract.labels
    places = {label: i for i, label in enumerate(b.contract.labels)}
    logits = given.logits[:, [places[label] for label in labels]]
    targets = _places(pool.truths, labels)
    verdict = verdict_of(known.logits, logits, targets.tolist())
    values = (
        probabilities(known.logits, a.contract.temperature).max(axis=1),
        probabilities(logits, b.contract.temperature).max(axis=1),
    )
    drop: Share | None = None
    if verdict.labelled:
        drop = difference(verdict.lost, verdict.won, verdict.labelled)
    pictures = [_picture(a, pool, flip.row) for flip in verdict.flips[:_PICTURES]]
    pictures += [""] * (len(verdict.flips) - len(pictures))
    flips = [
        Flip(
            image=flip.row,
            a=labels[flip.reference],
            b=labels[flip.candidate],
            a_probability=round(float(values[0][flip.row]), 4),
            b_probability=round(float(values[1][flip.row]), 4),
            outcome=_outcome(int(targets[flip.row]), flip.reference, flip.candidate),
            picture=picture,
        )
        for flip, picture in zip(verdict.flips, pictures, strict=True)
    ]
    return Pair(
        a=a.candidate.key,
        b=b.candidate.key,
        images=verdict.images,
        agreement=wilson(verdict.same, verdict.images),
        labelled=verdict.labelled,
        lost=verdict.lost,
        won=verdict.won,
        p=verdict.p if verdict.labelled else None,
        drop=drop,
        largest=verdict.largest,
        flips=tuple(flips),
    )


def _outcome(truth: int, a: int, b: int) -> Literal["lost", "won", "both wrong", ""]:
    if truth == UNKNOWN:
        return ""
    if truth == a:
        return "lost"
    return "won" if truth == b else "both wrong"


def _picture(seat: Seat, pool: Pool, place: int) -> str:
    try:
        return data_uri(load(pool.paths[place], seat.contract.geometry), _SIDE)
    except EdgeFgrError:  # gone since it was judged
        return ""


def _places(truths: Sequence[Label], labels: Sequence[Label]) -> npt.NDArray[np.intp]:
    """Return the place of each truth among the labels, ``UNKNOWN`` where it has none."""
    known = {label: i for i, label in enumerate(labels)}
    return np.array([known.get(truth, UNKNOWN) for truth in truths], np.intp)
