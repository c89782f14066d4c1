"""After the last step: what is judged, and the head that is computed or learnt anew."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from edge_fgr.contract import Contract
from edge_fgr_train.checkpoint import RESULT, load_network, save_network
from edge_fgr_train.classifiers import retrained_head
from edge_fgr_train.collectives import copied, spread
from edge_fgr_train.dataset import targets_of
from edge_fgr_train.evaluate import embeddings_of, figures_of, logits_of
from edge_fgr_train.network import Network
from edge_fgr_train.parts import Split
from edge_fgr_train.ranks import ALONE, Ranks
from edge_fgr_train.refit import whitened_head

__all__ = ["judged", "refit"]


def refit(folder: Path, split: Split, device: torch.device, ranks: Ranks = ALONE) -> None:
    """Replace the head of the result in ``folder`` by the recipe's, from all fitted images.

    It depends on the embeddings alone: done twice it is the same.
    """
    with copied(ranks, folder, RESULT) as here:
        network, contract, run = load_network(here)
    recipe = run.recipe
    network.to(device)
    ranks.say("the head is fitted anew to embeddings of all images")
    rows = embeddings_of(network, [s.path for s in split.fit], contract.geometry, ranks=ranks)
    targets, classes = targets_of(split.fit, contract.labels), len(contract.labels)
    if recipe.model.refit != "none":
        key, made = "refit", str(recipe.model.refit)
        head = whitened_head(rows, targets, classes)
    else:
        key, made = "classifier", recipe.balance.classifier
        head = retrained_head(rows, targets, classes, recipe)
    network.take_head(head.weight, head.bias)
    spread(ranks, [network])
    if ranks.is_first:
        save_network(folder, network.state_dict(), contract)
    if split.evaluate:
        ranks.say(json.dumps({key: made, **judged(network, split, contract, ranks)}))


def judged(
    network: Network, split: Split, contract: Contract, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Return the figures of a network on what is evaluated, by name; ranks share the images."""
    paths = [s.path for s in split.evaluate]
    logits = logits_of(network, paths, contract.geometry, ranks=ranks)
    return figures_of(logits, targets_of(split.evaluate, contract.labels), contract.labels)
