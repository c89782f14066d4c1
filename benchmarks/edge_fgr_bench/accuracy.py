"""Accuracy of a model on labelled folders, and how INT8 compares with fp32, through the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.model import Model
from edge_fgr_export.parity import logits_of
from edge_fgr_train.dataset import Sample, scan, targets_of
from edge_fgr_train.evaluate import coarse_hits, wilson

__all__ = ["Judged", "agreement", "judge", "judge_all"]


@dataclass(frozen=True, slots=True)
class Judged:
    """Logits of one model on one set, and which images it got right."""

    logits: npt.NDArray[np.float32]
    fine: npt.NDArray[np.bool_]
    coarse: npt.NDArray[np.bool_]


def judge(model: Model, samples: Sequence[Sample]) -> Judged:
    """Classify labelled images. Coarse: probabilities summed over equal first two path elements.

    Probabilities are those that the runtime gives: at the temperature of the model's contract.
    """
    contract = model.contract
    targets = targets_of(samples, contract.labels)
    logits = logits_of(model, [sample.path for sample in samples], contract.geometry)
    coarse = coarse_hits(logits, targets, contract.labels, contract.temperature)
    return Judged(logits, logits.argmax(1) == targets, coarse)


def agreement(a: Judged, b: Judged) -> float:
    """Share of images that get the same label from both."""
    return float(np.mean(a.logits.argmax(1) == b.logits.argmax(1)))


def judge_all(
    models: dict[str, Model], data: Path, splits: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return figures per split, and pooled over all splits, for models named fp32 and int8."""
    rows: dict[str, dict[str, float]] = {}
    judged: dict[str, dict[str, Judged]] = {}
    for split in splits:
        samples = scan(data, (split,))
        judged[split] = {name: judge(model, samples) for name, model in models.items()}
    if len(splits) > 1:
        judged["+".join(splits)] = {
            name: Judged(
                *(
                    np.concatenate([getattr(judged[split][name], part) for split in splits])
                    for part in ("logits", "fine", "coarse")
                )
            )
            for name in models
        }
    for split, found in judged.items():
        row: dict[str, float] = {}
        for name, result in found.items():
            row["images"] = len(result.fine)
            row[f"{name}_fine"] = float(result.fine.mean())
            row[f"{name}_coarse"] = float(result.coarse.mean())
            low, high = wilson(int(result.fine.sum()), len(result.fine))
            row |= {f"{name}_fine_low": low, f"{name}_fine_high": high}
        if {"fp32", "int8"} <= set(found):
            row["drop"] = row["fp32_fine"] - row["int8_fine"]
            row["agreement"] = agreement(found["fp32"], found["int8"])
        rows[split] = row
    return rows
