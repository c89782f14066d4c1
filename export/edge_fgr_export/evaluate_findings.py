"""What an evaluation found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Label
from edge_fgr.decision import probabilities
from edge_fgr_export.answerers import Answerer
from edge_fgr_export.evaluate_answers import Answers
from edge_fgr_export.evaluate_figures import Figures
from edge_fgr_export.operating_points import Judged
from edge_fgr_export.resampled import Counted, Estimate
from edge_fgr_export.two_sided import NOTICE, Decision, TwoSided
from edge_fgr_export.verify_findings import facts_of
from edge_fgr_export.verify_images import Pool
from edge_fgr_train.dataset import printable

__all__ = ["Evaluation", "lines", "to_json", "told"]

_SHOWN = 10
"""Pairs and classes that a table shows; JSON has all."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One model on labelled images.

    Attributes:
        side: the model.
        data, splits: as they were given.
        sides: a two-sided decision, where classes were called positive.
        operating: what an operating point does, where one was asked for or the model has one.
    """

    side: Answerer
    data: Sequence[str]
    splits: Sequence[str]
    pool: Pool
    answers: Answers
    figures: Figures
    sides: TwoSided | None = None
    operating: Judged | None = None

    @property
    def labels(self) -> tuple[Label, ...]:
        """Class i of the logits."""
        return self.side.labels

    def accepted_class(self) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.bool_]]:
        """Return probabilities of the class that the operating point accepts, and whose it is."""
        assert self.operating is not None  # noqa: S101  typing only
        place = self.labels.index(self.operating.point.label)
        scores = probabilities(self.answers.logits, self.side.temperature)[:, place]
        return scores, np.array(self.pool.targets) == place


def to_json(made: Evaluation) -> dict[str, Any]:
    """Return the findings as JSON-ready values; ``schema_version`` 1. See ``docs/json.md``."""
    found, labels = made.figures, [list(label) for label in made.labels]
    worst = found.worst
    return {
        "schema_version": 1,
        "model": facts_of(made.side),
        "data": [*made.data],
        "splits": [*made.splits],
        "images": found.images,
        "classes": len(labels),
        "top1": _counted(found.top1),
        "top5": _counted(found.top5),
        "macro_recall": _estimate(found.macro),
        "worst": {
            "label": labels[worst.place],
            "images": worst.images,
            **_estimate(worst.recall),
        },
        "coarse": _counted(found.coarse),
        "ece": _estimate(found.ece),
        "brier": _estimate(found.brier),
        "unknown": _counted(Counted(int(made.answers.unknown.sum()), found.images)),
        "per_class": [
            {
                "label": labels[row.place],
                "recall": _counted(row.recall),
                "precision": _counted(row.precision),
                "taken_for": None if row.taken_for is None else labels[row.taken_for],
                "times": row.times,
            }
            for row in found.classes
        ],
        "confused": [
            {
                "truth": labels[pair.truth],
                "answer": labels[pair.answer],
                **(_counted(pair.counted) or {}),
            }
            for pair in found.confused
        ],
        "two_sided": _sides(made.sides, labels),
        "operating": _operating(made.operating, labels),
    }


def _sides(sides: TwoSided | None, labels: list[list[str]]) -> dict[str, Any] | None:
    if sides is None:
        return None
    return {
        "positive": [labels[place] for place in sides.positive],
        "images": _counted(sides.images),
        "auc": _estimate(sides.auc),
        "average_precision": _estimate(sides.average_precision),
        "decisions": [
            {"threshold": each.threshold} | {key: _counted(getattr(each, key)) for key, _ in _RATES}
            for each in sides.decisions
        ],
        "notice": NOTICE,
    }


def _operating(made: Judged | None, labels: list[list[str]]) -> dict[str, Any] | None:
    if made is None:
        return None
    point = made.point
    return {
        "label": list(point.label),
        "threshold": point.threshold,
        "max_false_reject": point.max_false_reject,
        "chosen_on_these": made.chosen,
        "good_rejected": _counted(made.good_rejected),
        "good_unknown": made.unknown,
        "missed": _counted(made.missed),
        "missed_by_class": [
            {"label": labels[place], **(_counted(each) or {})} for place, each in made.by_class
        ],
    }


def _counted(found: Counted | None) -> dict[str, Any] | None:
    if found is None:
        return None
    interval = [round(end, 6) for end in found.interval]
    return {
        "count": found.count,
        "of": found.of,
        "share": round(found.share, 6),
        "interval": interval,
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    interval = [round(end, 6) for end in found.interval]
    return {"value": round(found.value, 6), "interval": interval}


_RATES = (
    ("sensitivity", "sensitivity"), ("specificity", "specificity"), ("ppv", "PPV"), ("npv", "NPV"),
)  # fmt: skip


def lines(made: Evaluation) -> list[str]:
    """Return the findings for people."""
    side, found = made.side, made.figures
    facts = f"{side.kind}, {side.target}, {side.device}"
    worst = found.worst
    present = sum(row.recall is not None for row in found.classes)
    rows = [
        ("model", f"{side.name} ({facts}): {side.id.name} version {side.id.version}"),
        ("images", f"{found.images}, of {present} of {len(made.labels)} classes"),
        ("top-1", _words(found.top1)),
        ("top-5", _words(found.top5)),
        ("macro recall", _words(found.macro)),
        ("worst class", f"{_words(worst.recall)}: {_path(made, worst.place)}, "
                        f"{_images(worst.images)}"),
        ("coarse", _words(found.coarse)),
        ("ECE", f"{_words(found.ece)}, at temperature {side.temperature:.3g}"),
        ("Brier score", f"{found.brier.value:.4f} (95% interval {found.brier.interval[0]:.4f} to "
                        f"{found.brier.interval[1]:.4f})"),
    ]  # fmt: skip
    shown = [f"{key:15}  {printable(value)}" for key, value in rows]
    shown += _pair_lines(made) + _class_lines(made)
    if made.sides is not None:
        shown += _side_lines(made, made.sides)
    if made.operating is not None:
        shown += _point_lines(made, made.operating)
    return shown


def _pair_lines(made: Evaluation) -> list[str]:
    confused = made.figures.confused
    if not confused:
        return []
    found = ["", "most confused: images of a class that were taken for another"]
    for pair in confused[:_SHOWN]:
        names = f"{_path(made, pair.truth)}  for  {_path(made, pair.answer)}"
        found.append(
            f"  {pair.counted.count} of {pair.counted.of}  {_words(pair.counted)}  {names}"
        )
    return found + _more(len(confused))


def _class_lines(made: Evaluation) -> list[str]:
    judged = [(row.place, row.recall) for row in made.figures.classes if row.recall]
    judged.sort(key=lambda row: (row[1].share, -row[1].of))
    found = ["", "recall of the classes, lowest first"]
    for place, recall in judged[:_SHOWN]:
        counts = f"{recall.count} of {recall.of}"
        found.append(f"  {counts}  {_words(recall)}  {_path(made, place)}")
    return found + _more(len(judged))


def _side_lines(made: Evaluation, sides: TwoSided) -> list[str]:
    names = ", ".join(_path(made, place) for place in sides.positive[:_SHOWN])
    rest = len(sides.positive) - _SHOWN
    found = [
        "",
        f"positive: {names}{f' and {rest} more' if rest > 0 else ''}; {sides.images.count} of "
        f"{sides.images.of} images",
        f"  {'ROC AUC':13}  {_plain(sides.auc)}",
        f"  {'avg. precision':13} {_plain(sides.average_precision)}",
    ]
    for each in sides.decisions:
        found.append(f"  {_rule(each)}")
        found += [f"    {name:11}  {_counts(getattr(each, key))}" for key, name in _RATES]
    return [*found, "  PPV and NPV hold for this data's share of positive images.", f"  {NOTICE}"]


def _rule(decision: Decision) -> str:
    if decision.threshold is None:
        return "by the model's answer"
    return f"by a probability of {decision.threshold:g} or more"


def _point_lines(made: Evaluation, judged: Judged) -> list[str]:
    point = judged.point
    name = printable(" > ".join(point.label))
    found = [
        "",
        f"accept {name} from probability {point.threshold:.6g} on",
        f"  {'good rejected':13}  {_counts(judged.good_rejected)}"
        + (f", {judged.unknown} of them as unknown" if judged.unknown else ""),
        f"  {'others missed':13}  {_counts(judged.missed)}",
    ]
    found += [
        f"    {_counts(each)}  {_path(made, place)}"
        for place, each in judged.by_class[:_SHOWN]
    ]  # fmt: skip
    return [*found, *_more(len(judged.by_class)), f"  {told(judged)}"]


def told(judged: Judged) -> str:
    """Return what the figures of an operating point rest on, as a sentence."""
    share = f"{100 * judged.point.max_false_reject:g} %"
    if judged.chosen:
        return (
            f"The threshold was chosen on these very images, so that at most {share} of the good "
            "are rejected: others tell what to expect of it."
        )
    return (
        f"The threshold is the model's own; when it was chosen, at most {share} of the good were "
        "to be rejected."
    )


def _words(found: Counted | Estimate | None) -> str:
    if found is None:
        return "-"
    value = found.share if isinstance(found, Counted) else found.value
    low, high = found.interval
    return f"{value:.2%} (95% interval {low:.2%} to {high:.2%})"


def _counts(found: Counted | None) -> str:
    return "-" if found is None else f"{found.count} of {found.of}, {_words(found)}"


def _plain(found: Estimate) -> str:
    low, high = found.interval
    return f"{found.value:.4f} (95% interval {low:.4f} to {high:.4f})"


def _path(made: Evaluation, place: int) -> str:
    return printable(" > ".join(made.labels[place]))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _more(count: int) -> list[str]:
    rest = count - _SHOWN
    return [f"  … and {rest} more; --format json lists all"] if rest > 0 else []
