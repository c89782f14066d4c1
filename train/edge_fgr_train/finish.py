"""After the last step: what is judged, and the head that is computed or learnt anew."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from edge_fgr.contract import Contract
from edge_fgr.progress import say
from edge_fgr_train.checkpoint import load_network, save_network
from edge_fgr_train.classifiers import retrained_head
from edge_fgr_train.dataset import targets_of
from edge_fgr_train.evaluate import embeddings_of, figures_of, logits_of
from edge_fgr_train.network import Network
from edge_fgr_train.parts import Split
from edge_fgr_train.refit import whitened_head

__all__ = ["judged", "refit"]


def refit(folder: Path, split: Split, device: torch.device) -> None:
    """Replace the head of the result in ``folder`` by the recipe's, from all fitted images.

    It depends on the embeddings alone: done twice it is the same.
    """
    network, contract, run = load_network(folder)
    recipe = run.recipe
    network.to(device)
    say("the head is fitted anew to embeddings of all images")
    rows = embeddings_of(network, [s.path for s in split.fit], contract.geometry)
    targets, classes = targets_of(split.fit, contract.labels), len(contract.labels)
    if recipe.model.refit != "none":
        key, made = "refit", str(recipe.model.refit)
        head = whitened_head(rows, targets, classes)
    else:
        key, made = "classifier", recipe.balance.classifier
        head = retrained_head(rows, targets, classes, recipe)
    network.take_head(head.weight, head.bias)
    save_network(folder, network.state_dict(), contract)
    if split.evaluate:
        say(json.dumps({key: made, **judged(network, split, contract)}))


def judged(network: Network, split: Split, contract: Contract) -> dict[str, float]:
    """Return the figures of a network on what is evaluated, by name."""
    logits = logits_of(network, [s.path for s in split.evaluate], contract.geometry)
    return figures_of(logits, targets_of(split.evaluate, contract.labels), contract.labels)
