"""A chain as a run: embeddings, cross-validation, one folded head, and the run's folder.

The folder is that of a trained network, so that it is exported, quantised and stamped like one.
On top of an exported model it holds a copy of that model instead of a network's weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Confidence, Contract
from edge_fgr.errors import ModelError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr.progress import say
from edge_fgr_train.chain import Fitted, decisions, fit_chain, fold
from edge_fgr_train.checkpoint import load_network, save_head, save_network
from edge_fgr_train.dataset import Sample, labels_of, targets_of
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.embedder import Embedder
from edge_fgr_train.evaluate import figures_of
from edge_fgr_train.features import embed
from edge_fgr_train.linear import LinearHead
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.parts import CROSS_VALIDATION, FITTED, Split, contract_of, run_of
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.views import embed_views

__all__ = ["Result", "fit_run"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_BASE = "base.onnx"
_MAX_DIFFERENCE = 1e-4


@dataclass(frozen=True, slots=True)
class Result:
    """What a chain run found.

    Attributes:
        fitted: the fitted parts.
        judged: the images that are evaluated: those of the evaluation split; without one, what
            cross-validation left out; without that, those to fit.
        judged_by: which of these, in words.
        logits: of the judged images ``(N, C)``, float32.
    """

    contract: Contract
    fitted: Fitted
    judged: Sequence[Sample]
    judged_by: str
    logits: Floats


def fit_run(split: Split, recipe: Recipe, base: Embedder, folder: Path) -> Result:
    """Fit the chain of ``recipe`` on embeddings of ``base`` and write the run's folder.

    Raises:
        UsageError: the folder holds another run, or the selection asks for too much.
        ImageError: images cannot be read.
        ModelError: the folded head does not repeat scikit-learn.
    """
    if recipe.chain is None:
        raise UsageError(f"{recipe.name}: the recipe has no [chain]")
    run = run_of(split, recipe)
    if base.kind == "model":
        run = replace(run, base=_BASE)
    run.refuse_other(folder)
    labels = labels_of(split.fit)
    rows = embed(base, [*split.fit, *split.evaluate])
    seen = LinearHead.seen(rows.astype(np.float64), l2=recipe.model.l2)
    views = embed_views(base, split.fit, recipe)
    fitted = fit_chain(
        seen[: len(split.fit)],
        targets_of(split.fit, labels),
        groups_of(split.fit),
        recipe.chain,
        LinearHead.seen(views.astype(np.float64), l2=recipe.model.l2),
    )
    weight, bias = (part.astype(np.float32) for part in fold(fitted.pipeline))
    logits = LinearHead(weight, bias, recipe.model.l2)(rows).astype(np.float32)
    difference = _compare(logits, decisions(fitted.pipeline, seen))
    judged, judged_by, of_judged = _judged(split, fitted, logits)
    contract = contract_of(split, recipe, Confidence(fitted.temperature))
    row = _row(fitted, of_judged, targets_of(judged, labels), labels, difference)
    run.write(folder)
    if base.kind == "model":
        atomic_write(folder / _BASE, Path(base.origin).read_bytes())
        save_head(folder, weight, bias, contract)
    else:
        network = _network(base, recipe, len(labels))
        network.take_head(weight, bias)
        save_network(folder, network.state_dict(), contract)
    atomic_write(folder / "log.jsonl", json.dumps(row) + "\n")
    say(json.dumps(row))
    return Result(contract, fitted, judged, judged_by, of_judged)


def _network(base: Embedder, recipe: Recipe, classes: int) -> Network:
    """Return the network that the embeddings came from, with a fresh head."""
    network = build_network(
        recipe.model, classes, pretrained=base.kind == "backbone", size=recipe.geometry.size
    )
    if base.kind == "run":
        trained, _, _ = load_network(Path(base.origin))
        network.backbone.load_state_dict(trained.backbone.state_dict())
    return network


def _judged(split: Split, fitted: Fitted, logits: Floats) -> tuple[Sequence[Sample], str, Floats]:
    if split.evaluate:
        return split.evaluate, split.folders[-1], logits[len(split.fit) :]
    if len(fitted.left_out):
        chosen = [split.fit[i] for i in fitted.left_out]
        return chosen, CROSS_VALIDATION, fitted.logits.astype(np.float32)
    return split.fit, FITTED, logits


def _compare(folded: Floats, exact: Doubles) -> float:
    """Return the largest difference of decision values.

    Raises:
        ModelError: it is above 1e-4, or a label differs.
    """
    difference = float(np.abs(folded - exact).max())
    if difference > _MAX_DIFFERENCE or (folded.argmax(1) != exact.argmax(1)).any():
        raise ModelError(
            f"the folded head differs from scikit-learn by {difference:.2g}; features that hardly "
            "vary are the usual cause: keep fewer (--select), or regularise more (chain.c)"
        )
    return difference


def _row(
    fitted: Fitted, logits: Floats, targets: Sequence[int], labels: Sequence[tuple[str, ...]],
    difference: float,
) -> dict[str, float]:  # fmt: skip
    best = max((point.top1 for point in fitted.path), default=float("nan"))
    return {
        "c": fitted.c,
        "cv_top1": best,
        **figures_of(logits, targets, labels, fitted.temperature),
        "temperature": fitted.temperature,
        "difference": difference,
    }
