"""``edge-fgr train``: reached by name from the command line of the runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edge_fgr.errors import UsageError
from edge_fgr.progress import say
from edge_fgr_train.chain_run import Result, fit_run
from edge_fgr_train.checkpoint import RESULT, Run, load_network
from edge_fgr_train.collectives import copied
from edge_fgr_train.dataset import counts_of, labels_of, targets_of
from edge_fgr_train.embedder import Embedder, open_embedder
from edge_fgr_train.evaluate import logits_of
from edge_fgr_train.imbalance import balanced_by
from edge_fgr_train.input_size import fitted_to
from edge_fgr_train.launch import joined
from edge_fgr_train.loop import train
from edge_fgr_train.mic import mic_labels, permutation_threshold
from edge_fgr_train.nearest import frozen_source, nearest_mean
from edge_fgr_train.network import as_finished, device_of
from edge_fgr_train.parts import FITTED, Split, split_of
from edge_fgr_train.qat import fine_tune
from edge_fgr_train.ranks import Ranks
from edge_fgr_train.recipe import Recipe, load_recipe
from edge_fgr_train.report import Report, write_report
from edge_fgr_train.selection import parse_selection, scores_of

__all__ = ["run", "run_qat"]

_MOST_FITTED = 512
"""Images of the fit split that a network is judged on where nothing was kept apart."""


def run(
    data: str,
    output: Path,
    recipe_name: str,
    changes: Sequence[str],
    device: str,
    base: str = "",
    imbalance: str = "none",
    size: str = "",
) -> None:
    """Train ``data`` by a recipe into the folder ``output``; resume what was interrupted.

    Args:
        data: a folder, an index or a public set; see ``edge_fgr_train.catalog``.
        output: the run's folder.
        recipe_name: a file, or the name of a shipped recipe.
        changes: ``section.key=value`` items.
        device: ``auto``, ``cpu`` or ``cuda``.
        base: what a chain stands on: a backbone's name, a run's folder or a model.
        imbalance: ``auto`` chooses the recipe's ``balance`` by the images to fit; ``none``.
        size: side of the input in pixels, or ``auto``: from the pictures; empty: the recipe's.

    Raises:
        EdgeFgrError: see the error tree; nothing half-written is left under a final name.
    """
    if imbalance not in ("auto", "none"):
        raise UsageError(f"--imbalance {imbalance}: auto or none")
    with joined(device) as ranks:
        processor = ranks.card(device_of(device))
        recipe = load_recipe(recipe_name, changes)
        report: Report | None
        if recipe.chain is None:
            if base:
                raise UsageError(
                    "--model is for chains; add --head, or name model.backbone with --set"
                )
            split = split_of(data, recipe, recipe_name)
            recipe = _suited(recipe, split, changes, imbalance, size, ranks)
            _say(recipe, split, ranks)
            train(split, recipe, output, processor, ranks=ranks)
            report = _of_network(output, recipe, split, processor, ranks)
            frozen = frozen_source(recipe, processor.type) if recipe.data.shots else None
        else:
            _refuse_for_chains(imbalance, size, ranks)
            parse_selection(recipe.chain.select)
            source, recipe = _base(recipe, base, changes, processor.type)
            split = split_of(data, recipe, recipe_name)
            _say(recipe, split, ranks)
            report = _of_chain(fit_run(split, recipe, source, output), recipe, split)
            frozen = source if recipe.data.shots else None
        if report is not None and frozen is not None:
            report = _beside(report, frozen)
        _done(output, recipe, report, ranks)


def run_qat(
    source: Path, data: str | None, output: Path, changes: Sequence[str], device: str
) -> None:
    """Fine-tune the network of the run ``source`` for INT8 into the folder ``output``.

    Args:
        source: a finished run.
        data: where its data set is now; None: where it was.
        output: the new run's folder.
        changes: ``section.key=value`` items.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        EdgeFgrError: see the error tree; nothing half-written is left under a final name.
    """
    with joined(device) as ranks:
        processor = ranks.card(device_of(device))
        recipe, split = fine_tune(source, data, changes, output, processor, ranks)
        _done(output, recipe, _of_network(output, recipe, split, processor, ranks), ranks)


def _done(output: Path, recipe: Recipe, report: Report | None, ranks: Ranks) -> None:
    if report is not None:
        ranks.say(f"{write_report(output, report)}: what was found, to look at")
    ranks.say(f"{output}: done; next: edge-fgr export {output} -o {recipe.name}.onnx")


def _suited(
    recipe: Recipe, split: Split, changes: Sequence[str], imbalance: str, size: str, ranks: Ranks
) -> Recipe:
    """Return the recipe with what is chosen by the images to fit."""
    recipe = fitted_to(recipe, size, split.fit, changes, ranks.say)
    if imbalance == "auto":
        recipe, words = balanced_by(recipe, counts_of(split.fit, labels_of(split.fit)))
        ranks.say(f"imbalance: {words}")
    return recipe


def _refuse_for_chains(imbalance: str, size: str, ranks: Ranks) -> None:
    """Raise UsageError for what only networks know that are trained."""
    if imbalance != "none":
        raise UsageError("--imbalance is for networks; a chain weighs its classes: chain.balanced")
    if size:
        raise UsageError(
            "--size is for networks that are trained; with --head: --set geometry.size=N"
        )
    if ranks.world > 1:
        raise UsageError("a chain is fitted by one process; use edge-fgr train for it")


def _beside(report: Report, source: Embedder) -> Report:
    """Say what the nearest class mean on frozen features reaches, in words and in the report."""
    frozen = nearest_mean(report.split, source)
    if frozen is not None:
        say(str(frozen))
    return replace(report, frozen=frozen)


def _say(recipe: Recipe, split: Split, ranks: Ranks) -> None:
    ranks.say(
        f"{recipe.name}: {len(split.fit)} images of {len(labels_of(split.fit))} classes to fit, "
        f"{len(split.evaluate)} to evaluate, {len(split.calibration)} kept for calibration"
    )


def _of_network(
    output: Path, recipe: Recipe, split: Split, device: torch.device, ranks: Ranks
) -> Report | None:
    """Judge a trained network on what it was evaluated on, else on some of what it fitted.

    Ranks share the images; only the first has a report.
    """
    with copied(ranks, output, RESULT) as here:
        network, contract, _ = load_network(here)
    judged, judged_by = split.evaluate, split.folders[-1] if split.folders else ""
    if not judged:
        step = -(-len(split.fit) // _MOST_FITTED)
        judged, judged_by = split.fit[::step], FITTED
    logits = logits_of(network.to(device), [s.path for s in judged], contract.geometry,
                       ranks=ranks)  # fmt: skip
    if not ranks.is_first:
        return None
    log = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return Report(
        recipe=recipe,
        split=split,
        labels=contract.labels,
        judged=judged,
        judged_by=judged_by,
        logits=logits,
        temperature=contract.temperature,
        scores=np.empty(0),
        kept=np.empty(0, bool),
        epochs=[json.loads(line) for line in log],
        network=network,
        device=device,
        commit=contract.provenance.commit,
    )


def _of_chain(result: Result, recipe: Recipe, split: Split) -> Report:
    labels = result.contract.labels
    scores, kept = scores_of(result.fitted.pipeline["select"])
    chance = None
    if recipe.chain and recipe.chain.select.startswith("mic"):
        classes = np.array(targets_of(split.fit, labels))
        chance = permutation_threshold(lambda x: mic_labels(x, classes), len(classes), draws=1000)
    return Report(
        recipe=recipe,
        split=split,
        labels=labels,
        judged=result.judged,
        judged_by=result.judged_by,
        logits=result.logits,
        temperature=result.fitted.temperature,
        scores=scores,
        kept=kept,
        chance=chance,
        path=result.fitted.path,
        c=result.fitted.c,
        commit=result.contract.provenance.commit,
    )


def _base(
    recipe: Recipe, base: str, changes: Sequence[str], device: str
) -> tuple[Embedder, Recipe]:
    """Return where embeddings come from, and the recipe with what that fixes."""
    name = base or recipe.model.backbone
    own = [part for part in ("geometry", "model.mirrors")
           if any(change.startswith(part) for change in changes)]  # fmt: skip
    pool = recipe.model.pool
    if recipe.model.tiles > 1:
        raise UsageError(
            "recipe: model.tiles is for networks that are trained; with --head leave it out, or "
            "give --model a model that was exported with tiles"
        )
    if pool == "bilinear":
        raise UsageError(
            "recipe: model.pool bilinear must be trained; a chain takes mean, gem or levels"
        )
    source = open_embedder(
        name,
        geometry=recipe.geometry if "geometry" in own or not base else None,
        device=device,
        pool=pool,
        mirrors=recipe.model.mirrors,
    )
    if own and source.kind != "backbone":
        what = own[0].rpartition(".")[2]
        raise UsageError(f"{name}: has its own {what}; leave --set {own[0]}… out")
    model = replace(recipe.model, dropout=0.0, head="linear", refit="none")
    if source.kind == "run":
        made = as_finished(Run.read(Path(source.origin)).recipe.model)
        if made.tiles > 1:
            raise UsageError(
                f"{name}: decides by tiles, and the new head would choose others; export it and "
                "give --model the .onnx file"
            )
        model = replace(made, dropout=0.0, l2=model.l2)
    elif source.kind == "backbone":
        model = replace(model, backbone=name)
    else:
        model = replace(model, pool="mean", mirrors=1)
    return source, replace(recipe, model=model, geometry=source.geometry)
