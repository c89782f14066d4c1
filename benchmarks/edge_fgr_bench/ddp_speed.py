"""How fast do several processes train beside one of as many threads? Images a second, in turn.

    python -m edge_fgr_bench.ddp_speed DATA [--recipe NAME] [--set k=v ...] [--ranks 2]
                                       [--steps 12] [--rounds 3] [--least R] [--json]

Both train by the same recipe with the same global batch, on processors: N processes of one thread
each, started as torchrun does, and one process of N threads. They take turns, each round in fresh
processes. The first epoch fills the caches of pictures, the second is timed without its first step.
Few images are trained on again and again, so that every rank has all of them in memory by then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from edge_fgr.errors import EdgeFgrError, UsageError
from edge_fgr_bench.told import parser_of, told
from edge_fgr_bench.train_speed import ONE_TRAINING, Timed, rate_of
from edge_fgr_train.dataset import labels_of
from edge_fgr_train.launch import joined
from edge_fgr_train.loop import train
from edge_fgr_train.network import device_of
from edge_fgr_train.parts import split_of
from edge_fgr_train.recipe import load_recipe

__all__ = ["Rates", "rates"]

_MODULE = "edge_fgr_bench.ddp_speed"
_DISTINCT = 2
"""Batches of different images."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Images a second, round by round.

    Attributes:
        several: of the processes together.
        one: of one process with as many threads.
    """

    several: tuple[float, ...]
    one: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return how many times as fast several processes are."""
        return median(self.several) / median(self.one)


def rates(arguments: Sequence[str], ranks: int, rounds: int) -> Rates:
    """Train with several processes and with one in turn.

    Args:
        arguments: of the command line, as the processes take them.
        ranks: how many, and how many threads the one has.
        rounds: how often each has its turn.

    Raises:
        EdgeFgrError: one failed; it has said why.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    several, one = [], []
    for _ in range(rounds):
        several.append(_rate([*launcher, "-m", _MODULE, *arguments], threads=1))
        one.append(_rate(["-m", _MODULE, *arguments], threads=ranks))
    return Rates(tuple(several), tuple(one))


def _rate(command: Sequence[str], threads: int) -> float:
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rate"
        done = subprocess.run(
            [sys.executable, *command, "--child", str(found)],
            env={**os.environ, **counts},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not found.exists():
            sys.stderr.write(done.stderr)
            raise EdgeFgrError(f"a training failed with exit code {done.returncode}; see above")
        return float(found.read_text())


def _child(options: argparse.Namespace) -> None:
    """Train as one of the processes; the first writes the rate."""
    recipe = load_recipe(options.recipe, (*options.changes, *ONE_TRAINING))
    batch, device = recipe.optimise.batch, device_of("cpu")
    with joined("cpu") as ranks, tempfile.TemporaryDirectory() as folder:
        split = split_of(options.data, recipe, options.recipe)
        order = np.random.default_rng(0).permutation(len(split.fit))[: _DISTINCT * batch]
        chosen = [split.fit[i] for i in islice(cycle(order.tolist()), options.steps * batch)]
        split = replace(split, fit=chosen, evaluate=(), calibration=())
        task = Timed(recipe, labels_of(chosen), device)
        train(split, recipe, Path(folder) / "run", device, task, ranks)
        if ranks.is_first:
            Path(options.child).write_text(str(rate_of(task.last(options.steps), batch)))


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; 1 when ``--least`` is not reached."""
    parser = parser_of(__doc__)
    parser.add_argument("data")
    parser.add_argument("--recipe", default="default", metavar="NAME")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="of a training's epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=0.0, help="ratio that must be reached")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.steps < 3 or options.rounds < 1 or options.ranks < 2:
        raise UsageError("--steps must be at least 3, --rounds at least 1, --ranks at least 2")
    if options.child:
        _child(options)
        return 0
    known = [options.data, "--recipe", options.recipe, "--steps", str(options.steps)]
    known += [part for change in options.changes for part in ("--set", change)]
    found = rates(known, options.ranks, options.rounds)
    if options.json:
        print(json.dumps({"schema_version": 1, "ratio": found.ratio} | asdict(found)))
    else:
        names = (f"{options.ranks} processes", f"{options.ranks} threads")
        for name, values in zip(names, (found.several, found.one), strict=True):
            spread = f"({min(values):.1f} to {max(values):.1f})"
            print(f"{name:14} {median(values):8.1f} images a second  {spread}")
        print(f"{'ratio':14} {found.ratio:8.3f}")
    return int(found.ratio < options.least)


if __name__ == "__main__":
    sys.exit(main())
