"""One run of an ablation, in a process of its own: train, judge, write a line of JSON.

    python -m edge_fgr_bench.ablate_one INDEX RESULT.json --recipe NAME [--set k=v ...] [--keep]

INDEX has the splits ``train`` and ``val``. The network is judged after the last epoch alone, so
that seconds are those of training. Weights are kept with --keep alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch

from edge_fgr.decision import probabilities
from edge_fgr.files import atomic_write
from edge_fgr_bench.ablation import Result
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.checkpoint import load_network
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.evaluate import logits_of, top1
from edge_fgr_train.loop import train
from edge_fgr_train.network import device_of
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import load_recipe
from edge_fgr_train.temperature import fit_temperature

__all__ = ["nll", "run_one"]


def run_one(index: Path, folder: Path, recipe_name: str, changes: Sequence[str]) -> Result:
    """Train a network and judge it.

    Args:
        index: its ``train`` is fitted, its ``val`` judged, where the changes say so.
        folder: for the run; an interrupted one is begun anew, or its seconds would be wrong.
        recipe_name: a file, or the name of a shipped recipe.
        changes: ``section.key=value`` items.

    Raises:
        EdgeFgrError: what ``load_recipe``, ``split_of`` and ``train`` raise.
    """
    recipe = load_recipe(recipe_name, changes)
    split, device = split_of(index, recipe), device_of("auto")
    shutil.rmtree(folder, ignore_errors=True)
    start = perf_counter()
    train(replace(split, evaluate=()), recipe, folder, device)
    seconds = perf_counter() - start
    network, contract, _ = load_network(folder)
    paths = [sample.path for sample in split.evaluate]
    logits = logits_of(network.to(device), paths, contract.geometry)
    targets = targets_of(split.evaluate, labels_of(split.fit))
    temperature = fit_temperature(logits, targets)
    return Result(
        recipe=recipe_name,
        changes=tuple(changes),
        fitted=len(split.fit),
        judged=len(targets),
        top1=top1(logits, targets),
        nll=nll(logits, targets, temperature),
        temperature=temperature,
        seconds=seconds,
        threads=torch.get_num_threads(),
    )


def nll(logits: npt.NDArray[np.float32], targets: Sequence[int], temperature: float = 1.0) -> float:
    """Return the mean negative log likelihood of ``targets``, in nats, for logits ``(N, C)``."""
    values = probabilities(logits, temperature)[np.arange(len(targets)), list(targets)]
    return float(-np.log(np.maximum(values, np.finfo(np.float64).tiny)).mean())


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--recipe", required=True, metavar="NAME")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", action="store_true", help="the network: it teaches others")
    options = parser.parse_args(arguments)
    folder = options.result.with_suffix(".run")
    result = run_one(options.index, folder, options.recipe, options.changes)
    atomic_write(options.result, json.dumps(asdict(result), indent=1) + "\n")
    if not options.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
