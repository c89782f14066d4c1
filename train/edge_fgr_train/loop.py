"""The training loop: bf16 where the processor has it, CUDA when there is one, resumable.

Every random draw depends on (seed, epoch, step) or (seed, epoch, image), so that a run that was
killed and resumed ends with the weights of an undisturbed one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from edge_fgr.contract import Contract
from edge_fgr.files import atomic_write
from edge_fgr.progress import progress, say
from edge_fgr_train.checkpoint import Run, save_network, save_state
from edge_fgr_train.collectives import copied, refuse_different, same_row
from edge_fgr_train.dataset import counts_of, digest_of, labels_of
from edge_fgr_train.finish import judged, refit
from edge_fgr_train.network import Network
from edge_fgr_train.parts import Split, contract_of, run_of
from edge_fgr_train.ranks import ALONE, Ranks
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.task import Task
from edge_fgr_train.training import Training

__all__ = ["train"]

_STATE = "state.safetensors"


def train(
    split: Split,
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    task: Task | None = None,
    ranks: Ranks = ALONE,
) -> Contract:
    """Train, writing the run's folder after every epoch; resume when it holds a state.

    Args:
        split: the images.
        recipe: how.
        folder: of the run; only the first rank reads and writes it.
        device: where to compute.
        task: what is learnt; None: the labels, by the recipe.
        ranks: the processes that do this together.

    Raises:
        UsageError: the folder holds a run with another recipe or other data; a teacher or a part of
            the recipe does not fit; ranks differ, or cannot share a batch.
        ModelError: the loss is no longer a number, or the state is damaged.
        OutputError: the folder cannot be written.
    """
    labels = labels_of(split.fit)
    task = task or Task(recipe, labels, device, counts_of(split.fit, labels))
    run = replace(run_of(split, recipe), source=task.source)
    contract = contract_of(split, recipe)
    if ranks.world > 1:
        refuse_different(ranks, _facts(run, split, contract, device))
    training = Training(split, recipe, task, ranks)
    if ranks.is_first:
        if (folder / _STATE).exists():
            run.refuse_other(folder, contract)
        else:
            run.write(folder)
    with copied(ranks, folder, [_STATE]) as here:
        if (here / _STATE).exists():
            training.resume(here / _STATE)
    left = (training.whole - training.done) * training.steps
    with progress(left, "train", show=ranks.is_first) as advance:
        while training.done < training.whole and not training.is_over():
            best = training.epoch(advance)
            row: dict[str, float] = {
                "epoch": training.done + 1,
                "loss": round(training.mean_loss, 4),
            }
            if split.evaluate:
                row |= judged(best, split, contract, ranks)
            training.rows.append(same_row(ranks, row))
            if ranks.is_first:
                _write(folder, training, best, contract)
                say(json.dumps(row))
    if recipe.model.refit != "none" or recipe.balance.classifier == "crt":
        refit(folder, split, device, ranks)
    return contract


def _write(folder: Path, training: Training, best: Network, contract: Contract) -> None:
    """Write what an epoch gave."""
    if training.is_kept():
        save_network(folder, best.finished(), contract)
    save_state(folder / _STATE, training.parts, training.optimiser, training.rows)
    log = "".join(json.dumps(each) + "\n" for each in training.rows)
    atomic_write(folder / "log.jsonl", log)


def _facts(run: Run, split: Split, contract: Contract, device: torch.device) -> dict[str, str]:
    """Return what must be the same for all ranks, by what it is; where the data are may differ."""
    return {
        "versions of PyTorch": torch.__version__,
        "kinds of device": device.type,
        "recipe": json.dumps(asdict(run.recipe)),
        "images to fit": json.dumps([run.fit, contract.labels, contract.provenance.data]),
        "images to evaluate": json.dumps([run.evaluate, digest_of(split.evaluate)]),
    }
