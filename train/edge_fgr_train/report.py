"""What a training run found, as one HTML file that opens anywhere, without a network.

Names of classes and files are the user's own: they enter the page only through the template, which
escapes them, and never a plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_fgr.contract import Label
from edge_fgr.decision import probabilities, roll_up
from edge_fgr.files import atomic_write
from edge_fgr_train import plots
from edge_fgr_train.chain import Point
from edge_fgr_train.confusion import DEPTH, confusion, has_coarse, matrix
from edge_fgr_train.dataset import Sample, targets_of
from edge_fgr_train.environment import environment
from edge_fgr_train.evaluate import coarse_hits, wilson
from edge_fgr_train.nearest import Frozen
from edge_fgr_train.network import Network
from edge_fgr_train.pages import render
from edge_fgr_train.parts import FITTED, Split
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.recipe_lines import recipe_lines
from edge_fgr_train.reliability import crossed, reliability
from edge_fgr_train.report_pairs import add_maps, frequent_pairs, scale
from edge_fgr_train.selection import parse_selection

__all__ = ["Report", "write_report"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_TOP = 20

_LEAST_CROSSED = 40
"""Judged images from which on halves of them can fit a temperature."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown of a run.

    Attributes:
        labels: class i of the logits.
        judged: images that the logits are of; at least one.
        judged_by: ``val``, ``cross-validation`` or ``the images it was fitted on``.
        logits: float32 ``(N, C)``.
        temperature: divisor of the logits before the softmax.
        scores: float64 ``(F,)``: for ``mic`` of every feature; for ``pca`` and ``lda`` the share of
            the variance of each component; may be empty.
        kept: bool ``(F,)``.
        chance: for ``mic`` the score that independent features reach in 5 % of cases.
        path: what cross-validation measured; empty for networks.
        c: the strength that was chosen.
        epochs: rows of a network's ``log.jsonl``; empty for chains.
        network: what gave the logits, for maps of its evidence; None: no maps.
        device: what it computed on; None: not told.
        commit: of the code; may be empty.
        frozen: what the nearest class mean on frozen features reaches, of few shots.
    """

    recipe: Recipe
    split: Split
    labels: Sequence[Label]
    judged: Sequence[Sample]
    judged_by: str
    logits: npt.NDArray[np.float32]
    temperature: float
    scores: Doubles
    kept: npt.NDArray[np.bool_]
    chance: float | None = None
    path: Sequence[Point] = ()
    c: float | None = None
    epochs: Sequence[Mapping[str, float]] = ()
    network: Network | None = None
    device: torch.device | None = None
    commit: str = ""
    frozen: Frozen | None = None


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Equal reports of equal images give equal bytes on one machine, which the page describes.

    Raises:
        OutputError: it cannot be written.
    """
    classes = len(report.labels)
    truth = np.array(targets_of(report.judged, report.labels), np.intp)
    to_fit = np.bincount(targets_of(report.split.fit, report.labels), minlength=classes)
    counts = confusion(truth, report.logits.argmax(1), classes)
    by_size = np.argsort(to_fit, kind="stable")
    pairs = frequent_pairs(
        report.judged, report.split.fit, report.labels, truth, report.logits, report.temperature,
        report.recipe.geometry,
    )  # fmt: skip
    mapped = report.network is not None and add_maps(pairs, report.network)
    page = {
        "report": report,
        "recipe": report.recipe,
        "split": report.split,
        "seen": report.judged_by == FITTED,
        "figures": _figures(report, truth, counts),
        "to_fit": to_fit.tolist(),
        "median": float(np.median(to_fit)),
        "fewest": by_size[:3].tolist(),
        "most": by_size[::-1][:3].tolist(),
        "size_plot": plots.size_plot(to_fit),
        "features": _features(report),
        "path_plot": plots.path_plot(report.path, report.c) if report.path else "",
        "epoch_plots": plots.epoch_plots(report.epochs),
        "matrices": _matrices(report, truth, counts),
        "calibration": _calibration(report, truth),
        "pairs": pairs,
        "scale": scale() if mapped else "",
        "classes": _classes(counts),
        "environment": environment(report.device),
        "lines": recipe_lines(report.recipe),
    }
    path = folder / "report.html"
    atomic_write(path, render("edge_fgr_train", "report.html", page))
    return path


def _figures(report: Report, truth: Ints, counts: Ints) -> dict[str, Any]:
    hits, total, of_class = int(counts.trace()), len(truth), counts.sum(1)
    recalls = counts.diagonal()[of_class > 0] / of_class[of_class > 0]
    figures = {
        "top1": hits / total,
        "interval": wilson(hits, total),
        "recall": float(recalls.mean()),
        "judged_classes": len(recalls),
        "coarse": None,
    }
    if has_coarse(report.labels):
        right = coarse_hits(report.logits, truth.tolist(), report.labels, report.temperature)
        figures["coarse"] = float(right.mean())
        figures["coarse_interval"] = wilson(int(right.sum()), total)
    return figures


def _features(report: Report) -> dict[str, Any] | None:
    """Return what the section on chosen features shows; None where nothing was chosen."""
    scores, kept = report.scores, report.kept
    if report.recipe.chain is None or not len(scores):
        return None
    kind = parse_selection(report.recipe.chain.select).kind
    best = np.argsort(-scores, kind="stable")[:_TOP].tolist()
    top = [(i, float(scores[i]), bool(kept[i])) for i in best]
    facts = {"kind": kind, "count": len(scores), "sum": float(scores.sum()), "top": top}
    if kind != "mic":
        return facts | {"plot": plots.share_plot(scores, cumulative=kind == "pca")}
    return facts | {
        "plot": plots.score_plot(scores, kept, report.chance),
        "kept": int(kept.sum()),
        "lowest": float(scores[kept].min(initial=1)),
        "above": 0 if report.chance is None else int((scores > report.chance).sum()),
    }


def _matrices(report: Report, truth: Ints, counts: Ints) -> list[dict[str, Any]]:
    if not has_coarse(report.labels):
        return [matrix(counts, report.labels, "classes")]
    shares = probabilities(report.logits, report.temperature)
    coarse, summed = roll_up(shares, report.labels, DEPTH)
    above = np.array([coarse.index(label[:DEPTH]) for label in report.labels])
    rolled = confusion(above[truth], summed.argmax(1), len(coarse))
    return [matrix(rolled, coarse, "coarse classes"), matrix(counts, report.labels, "classes")]


def _calibration(report: Report, truth: Ints) -> dict[str, Any]:
    """Return the reliability of the probabilities, and of a network's when they are calibrated.

    A network has no temperature before it is exported, and chains have theirs. To show what one
    will bring, each half of the judged images lends its temperature to the other.
    """
    plain = reliability(probabilities(report.logits, report.temperature), truth)
    found = {
        "plain": plain,
        "plain_plot": plots.reliability_plot(plain, f"temperature {report.temperature:.3g}"),
        "fitted": None,
    }
    no_network = report.recipe.chain is not None
    if no_network or report.judged_by == FITTED or len(truth) < _LEAST_CROSSED:
        return found
    values, temperatures = crossed(report.logits, truth.tolist())
    fitted = reliability(values, truth)
    plot = plots.reliability_plot(fitted, "temperature of the other half")
    return found | {"fitted": fitted, "temperatures": temperatures, "fitted_plot": plot}


def _classes(counts: Ints) -> list[dict[str, Any]]:
    """Return a row per class, lowest recall first; those without judged images come last."""
    rows = []
    for i, of in enumerate(counts.sum(1).tolist()):
        right, answers = int(counts[i, i]), int(counts[:, i].sum())
        others = counts[i].copy()
        others[i] = 0
        rows.append(
            {
                "i": i,
                "judged": of,
                "recall": right / of if of else None,
                "precision": right / answers if answers else None,
                "wrong": int(others.argmax()) if others.any() else None,
                "times": int(others.max()),
            }
        )
    return sorted(rows, key=lambda row: (not row["judged"], row["recall"], -row["judged"]))
