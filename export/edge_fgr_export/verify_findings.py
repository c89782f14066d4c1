"""What a comparison found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry, Label
from edge_fgr.decision import probabilities
from edge_fgr_export.answerers import Answerer
from edge_fgr_export.verify import UNKNOWN, Limits, Verdict
from edge_fgr_export.verify_images import Pool
from edge_fgr_train.dataset import printable
from edge_fgr_train.evaluate import wilson

__all__ = ["Changed", "Comparison", "Side", "facts_of", "lines", "to_json"]

Floats = npt.NDArray[np.float32]

_SHOWN = 20
"""Flipped images that a table shows; JSON has all."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one side says about an image: its label, with probability and margin in logits."""

    label: Label
    probability: float
    margin: float


@dataclass(frozen=True, slots=True)
class Changed:
    """An image with two labels; ``truth`` is None where it is not known."""

    row: int
    truth: Label | None
    reference: Side
    candidate: Side

    @property
    def outcome(self) -> str:
        """``lost``, ``won``, ``both wrong``, or empty where the truth is not known."""
        if self.truth is None:
            return ""
        if self.truth == self.reference.label:
            return "lost"
        return "won" if self.truth == self.candidate.label else "both wrong"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two answerers.

    Attributes:
        logits: of both ``(N, C)``, columns in the order of the reference's labels.
        broken: a sentence for each limit that does not hold.
    """

    reference: Answerer
    candidate: Answerer
    pool: Pool
    logits: tuple[Floats, Floats]
    verdict: Verdict
    limits: Limits
    broken: Sequence[str]

    @property
    def pixels(self) -> str:
        """How the pixels of both came about: ``same``, ``own``, or ``kept`` of golden logits."""
        geometries = (self.reference.geometry, self.candidate.geometry)
        if None in geometries:
            return "kept"
        return "same" if geometries[0] == geometries[1] else "own"

    def changed(self) -> list[Changed]:
        """Return the flipped images, the largest margin of the reference first."""
        labels, flips = self.reference.labels, self.verdict.flips
        first, second = (
            probabilities(logits[[flip.row for flip in flips]], side.temperature).tolist()
            for logits, side in zip(self.logits, (self.reference, self.candidate), strict=True)
        )
        found = []
        for flip, a, b in zip(flips, first, second, strict=True):
            target = self.pool.targets[flip.row]
            truth = None if target == UNKNOWN else labels[target]
            one = Side(labels[flip.reference], a[flip.reference], flip.reference_margin)
            two = Side(labels[flip.candidate], b[flip.candidate], flip.candidate_margin)
            found.append(Changed(flip.row, truth, one, two))
        return found


def to_json(made: Comparison) -> dict[str, Any]:
    """Return the findings as JSON-ready values; ``schema_version`` 1. See ``docs/verify.md``."""
    verdict, limits = made.verdict, made.limits
    accuracy = mcnemar = None
    if verdict.drop is not None:
        accuracy = {
            "reference": _share(verdict.reference_right, verdict.labelled),
            "candidate": _share(verdict.candidate_right, verdict.labelled),
            "drop": round(verdict.drop, 6),
        }
        mcnemar = {"lost": verdict.lost, "won": verdict.won, "p": _digits(verdict.p)}
    return {
        "schema_version": 1,
        "reference": facts_of(made.reference),
        "candidate": facts_of(made.candidate),
        "pixels": made.pixels,
        "images": verdict.images,
        "labelled": verdict.labelled,
        "agreement": _share(verdict.same, verdict.images),
        "accuracy": accuracy,
        "mcnemar": mcnemar,
        "logits": {
            "largest": _digits(verdict.largest),
            "mean": _digits(verdict.mean),
            "relative_rms": _digits(verdict.relative_rms),
        },
        "limits": {"min_agreement": limits.min_agreement, "max_drop": limits.max_drop},
        "passed": not made.broken,
        "broken": [*made.broken],
        "flipped": [
            {
                "file": str(made.pool.paths[change.row]),
                "truth": None if change.truth is None else list(change.truth),
                "reference": _said(change.reference),
                "candidate": _said(change.candidate),
            }
            for change in made.changed()
        ],
    }


def facts_of(side: Answerer) -> dict[str, Any]:
    """Return what a document says of one side."""
    return {
        "file": side.name,
        "kind": side.kind,
        "model": side.id.name,
        "version": side.id.version,
        "digest": side.id.digest,
        "target": side.target,
        "device": side.device,
        "temperature": side.temperature,
        "size": side.geometry.size if side.geometry else None,
    }


def _share(count: int, of: int) -> dict[str, Any]:
    interval = [round(end, 6) for end in wilson(count, of)]
    return {"count": count, "share": round(count / of, 6), "interval": interval}


def _said(side: Side) -> dict[str, Any]:
    return {
        "label": list(side.label),
        "probability": round(side.probability, 6),
        "margin": _digits(side.margin),
    }


def _digits(value: float | None) -> float | None:
    """Six digits that say something: differences may be tiny."""
    return None if value is None else float(f"{value:.6g}")


def lines(made: Comparison) -> list[str]:
    """Return the findings for people."""
    verdict, changed = made.verdict, made.changed()
    rms = "-" if verdict.relative_rms is None else f"{100 * verdict.relative_rms:.3g}%"
    top1, test = ("-", "-", "-"), "-"
    if verdict.drop is not None:
        rights = (verdict.reference_right, verdict.candidate_right)
        first, second = (_percent(right, verdict.labelled) for right in rights)
        top1 = (first, second, f"{100 * verdict.drop:+.2f} points")
        test = f"lost {verdict.lost}, won {verdict.won}, p = {verdict.p:.3g} (two-sided, exact)"
    rows = [
        ("reference", _line(made.reference)),
        ("candidate", _line(made.candidate)),
        ("pixels", _pixels(made)),
        ("images", f"{verdict.images}, {verdict.labelled} of them labelled"),
        ("labels agree", f"{_percent(verdict.same, verdict.images)}, {len(changed)} flipped"),
        ("top-1 reference", top1[0]),
        ("top-1 candidate", top1[1]),
        ("top-1 drop", top1[2]),
        ("McNemar's test", test),
        (
            "logits differ",
            f"largest {verdict.largest:.3g}, mean {verdict.mean:.3g}, relative RMS {rms}",
        ),
        ("limits", _limits(made)),
    ]
    found = [f"{key:15}  {printable(value)}" for key, value in rows]
    if changed:
        found += ["", "flipped, the surest of the reference first (probability, margin in logits)"]
        temperatures = [made.reference.temperature, made.candidate.temperature]
        if temperatures[0] != temperatures[1]:
            each = " and ".join(f"{value:.3g}" for value in temperatures)
            found.append(f"probabilities are each side's own, of temperatures {each}")
    for change in changed[:_SHOWN]:
        truth = "-" if change.truth is None else _path(change.truth)
        found += [
            f"  {printable(str(made.pool.paths[change.row]))}",
            f"    truth      {truth}{f' ({change.outcome})' if change.outcome else ''}",
            f"    reference  {_words(change.reference)}",
            f"    candidate  {_words(change.candidate)}",
        ]
    if len(changed) > _SHOWN:
        found.append(f"  … and {len(changed) - _SHOWN} more; --format json lists all")
    return found


def _line(side: Answerer) -> str:
    facts = f"{side.kind}, {side.target}, {side.device}"
    return f"{side.name} ({facts}): {side.id.name} version {side.id.version}"


def _pixels(made: Comparison) -> str:
    rules = [_rule(s.geometry) for s in (made.reference, made.candidate) if s.geometry]
    if made.pixels == "same":
        return f"the same for both: {rules[0]}"
    if made.pixels == "own":
        return f"each by its own contract: {rules[0]} against {rules[1]}"
    return f"golden logits keep none; the other side: {rules[0]}" if rules else "-"


def _rule(geometry: Geometry) -> str:
    return f"{geometry.size} x {geometry.size}, {geometry.resize} side to {geometry.short_side}"


def _limits(made: Comparison) -> str:
    limits = made.limits
    asked = [
        f"{name} {value:g}"
        for name, value in (
            ("--min-agreement", limits.min_agreement), ("--max-drop", limits.max_drop),
        )
        if value is not None
    ]  # fmt: skip
    if not asked:
        return "-"
    return f"{', '.join(asked)}: {'; '.join(made.broken) if made.broken else 'kept'}"


def _percent(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{count / of:.2%} (95% interval {low:.2%} to {high:.2%})"


def _words(side: Side) -> str:
    return f"{_path(side.label)} ({side.probability:.1%}, {side.margin:.3g})"


def _path(label: Label) -> str:
    return printable(" > ".join(label))
