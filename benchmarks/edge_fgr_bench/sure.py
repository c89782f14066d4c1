"""Does a model keep what its confidence promises? On labelled folders, through the classifier.

python -m edge_fgr_bench.sure MODEL DATA [--split val --split test] [--coverage 0.95]
                              [--without LIST]

A line a figure, then one line of JSON. ``--without`` names images that are left out, one a line
such as ``val/Fruit/Kiwi/Kiwi_001.jpg``: those of a calibration list that stand in the split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr import Classifier, Prediction
from edge_fgr.contract import Label
from edge_fgr.decision import probabilities
from edge_fgr.model import open_model
from edge_fgr_bench.told import parser_of, told
from edge_fgr_export.parity import logits_of
from edge_fgr_train.dataset import Sample, read_list, scan, targets_of
from edge_fgr_train.evaluate import wilson
from edge_fgr_train.reliability import brier, ece

__all__ = ["calibration_error", "sure"]

Floats = npt.NDArray[np.floating]


def calibration_error(values: Floats, targets: npt.NDArray[np.int64]) -> float:
    """Return the expected calibration error of ``(N, C)`` over 15 equal bins (Guo et al. 2017)."""
    return ece(values.max(axis=1).astype(np.float64), values.argmax(axis=1) == targets)


def sure(path: Path, samples: list[Sample], coverage: float = 0.95) -> dict[str, Any]:
    """Return the figures of a model on labelled images.

    Args:
        path: the model.
        samples: images of its classes.
        coverage: asked for of the sets of labels.
    """
    classifier = Classifier.load(path, device="cpu", coverage=coverage)
    contract = classifier.contract
    paths = [sample.path for sample in samples]
    logits = logits_of(open_model(path, device="cpu"), paths, contract.geometry)
    targets = np.array(targets_of(samples, contract.labels))
    values, plain = probabilities(logits, contract.temperature), probabilities(logits)
    answers = list(classifier.classify_many(paths, top_k=1))
    truths = [sample.label for sample in samples]
    held = [p.labels for p in answers if p.labels]
    covered = [truth in labels.labels for truth, labels in zip(truths, held, strict=True)]
    figures: dict[str, Any] = {
        "images": len(samples),
        "top1": float((values.argmax(axis=1) == targets).mean()),
        "ece": calibration_error(values, targets),
        "ece_temperature_1": calibration_error(plain, targets),
        "brier": brier(values, targets),
        "brier_temperature_1": brier(plain, targets),
        "coverage": float(np.mean(covered)),
        "coverage_interval": list(wilson(sum(covered), len(covered))),
        "mean_set": float(np.mean([len(labels.labels) for labels in held])),
        "known_called_unknown": float(np.mean([p.verdict.kind == "unknown" for p in answers])),
        "uncertain": float(np.mean([p.verdict.kind == "uncertain" for p in answers])),
    }
    return figures | _levels(answers, truths)


def _levels(answers: list[Prediction], truths: list[Label]) -> dict[str, Any]:
    """Return how often each level of the label is said, and how often that is right."""
    found: dict[str, Any] = {}
    said = [
        (answer.verdict, truth)
        for answer, truth in zip(answers, truths, strict=True)
        if answer.verdict.label
    ]
    for depth in sorted({len(verdict.label) for verdict, _ in said}):
        for kind in ("class", "coarse"):
            right = [
                truth[:depth] == verdict.label
                for verdict, truth in said
                if len(verdict.label) == depth and verdict.kind == kind
            ]
            if right:
                name = f"level_{depth}_{kind}"
                found |= {f"{name}_said": len(right), f"{name}_right": float(np.mean(right))}
    right = [truth[: len(verdict.label)] == verdict.label for verdict, truth in said]
    return found | {"said": len(right), "said_right": float(np.mean(right)) if right else 1.0}


@told
def main(arguments: list[str] | None = None) -> int:
    """Run for the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", action="append", default=[])
    parser.add_argument("--coverage", type=float, default=0.95)
    parser.add_argument("--without", type=Path)
    chosen = parser.parse_args(arguments)
    without = read_list(chosen.without) if chosen.without else frozenset()
    samples = scan(chosen.data, chosen.split or ["val"])
    samples = [sample for sample in samples if sample.name not in without]
    figures = sure(chosen.model, samples, chosen.coverage)
    for name, value in figures.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name:24} {shown}")
    print(json.dumps({"model": str(chosen.model), "split": chosen.split or ["val"]} | figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
