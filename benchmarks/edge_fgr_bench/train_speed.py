"""How fast is our training loop beside a bare one of PyTorch? Images a second, both in turn.

    python -m edge_fgr_bench.train_speed DATA [--recipe NAME] [--set k=v ...] [--steps 12]
                                         [--rounds 3] [--json]

Ours is ``edge_fgr_train.loop.train`` with all that it does in a step: pictures from its cache, cut
and changed, mixed, the step itself, the moving average. The bare one has the same network, batch,
type of numbers and optimiser, and its pictures lie ready in memory: it only computes. Both take
turns in one process, and the first step of each is not counted. Ours draws a few batches ahead: ask
for many steps, where drawing takes longer than the step, or these make it look faster than it is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_fgr.contract import Label
from edge_fgr.errors import UsageError
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.augment import TrainingSet
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.loading import draw_batches
from edge_fgr_train.loop import train
from edge_fgr_train.network import Network, build_network, device_of
from edge_fgr_train.parts import Split, split_of
from edge_fgr_train.recipe import Recipe, load_recipe
from edge_fgr_train.task import Task

__all__ = ["ONE_TRAINING", "Rates", "Timed", "rate_of", "rates"]

_EPOCHS = 2
"""The first fills the cache of pictures; the second is timed."""

ONE_TRAINING = (
    f"optimise.epochs={_EPOCHS}",
    "optimise.fix_epochs=0",
    "optimise.members=1",
    "augment.start_size=0",
    'data.calibration=""',
)
"""Changes of a recipe, so that one short training is all that is timed."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Rates:
    """Images a second, round by round.

    Attributes:
        ours, bare: of the two loops.
        ratio: median of ours over median of the bare one.
    """

    ours: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return how many times as fast ours is."""
        return median(self.ours) / median(self.bare)


class Timed(Task):
    """Notes when each step reaches its loss, and in which type of numbers it is computed."""

    def __init__(self, recipe: Recipe, labels: Sequence[Label], device: torch.device) -> None:
        super().__init__(recipe, labels, device)
        self.marks: list[float] = []
        self.autocast: torch.dtype | None = None

    def loss(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the loss, as every training has it."""
        _wait(self.device)
        self.marks.append(perf_counter())
        kind = self.device.type
        cast = torch.is_autocast_enabled(kind)
        self.autocast = torch.get_autocast_dtype(kind) if cast else None
        return super().loss(*inputs, **named)

    def last(self, steps: int) -> list[float]:
        """Return when each step of the last epoch began; one may ask for its loss twice."""
        marks = self.marks[len(self.marks) // _EPOCHS :]
        return marks[:: len(marks) // steps]


def rates(split: Split, recipe: Recipe, device: torch.device, steps: int, rounds: int) -> Rates:
    """Train with both loops in turn.

    Args:
        split: whose ``fit`` is trained on: as much of it as the steps need, some twice if it is
            too small.
        recipe: of two epochs and one member.
        device: where to.
        steps: of an epoch, at least 3.
        rounds: how often each has its turn.

    Raises:
        EdgeFgrError: what ``train`` raises.
    """
    batch = recipe.optimise.batch
    order = np.random.default_rng(0).permutation(len(split.fit))
    chosen = [split.fit[i] for i in islice(cycle(order.tolist()), steps * batch)]
    split = replace(split, fit=chosen, evaluate=(), calibration=())
    labels = labels_of(chosen)
    ready = _ready(split, recipe, steps)
    ours, bare = [], []
    for _ in range(rounds):
        task = Timed(recipe, labels, device)
        with tempfile.TemporaryDirectory() as folder:
            train(split, recipe, Path(folder) / "run", device, task)
        ours.append(rate_of(task.last(steps), batch))
        network = build_network(
            recipe.model,
            len(labels),
            pretrained=recipe.model.pretrained,
            size=recipe.geometry.size,
        )
        bare.append(rate_of(_bare(network.to(device), recipe, ready, task.autocast), batch))
    return Rates(tuple(ours), tuple(bare))


def _ready(split: Split, recipe: Recipe, steps: int) -> list[Batch]:
    """Return the batches of an epoch as uint8 ``(N, H, W, 3)`` and classes ``(N,)``."""
    targets = targets_of(split.fit, labels_of(split.fit))
    pictures = TrainingSet(split.fit, targets, recipe.augment, recipe.geometry, 0)
    return list(draw_batches(pictures, recipe.optimise.batch, 0, steps))


def _bare(
    network: Network, recipe: Recipe, batches: Sequence[Batch], autocast: torch.dtype | None
) -> list[float]:
    """Train one epoch as plainly as can be; return when each step began to compute."""
    device = next(network.parameters()).device
    optimiser = _optimiser(network, recipe)
    network.train()
    marks = []
    for pixels, truth in batches:
        x, y = pixels.to(device), truth.to(device)
        _wait(device)
        marks.append(perf_counter())
        cast: AbstractContextManager[object] = nullcontext()
        if autocast is not None:
            cast = torch.autocast(device.type, autocast)
        with cast:
            logits = network(x).logits.float()
            loss = functional.cross_entropy(
                logits, y, label_smoothing=recipe.optimise.label_smoothing
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return marks


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    learnt = [value for value in network.parameters() if value.requires_grad]
    rules = recipe.optimise
    if rules.method == "sgd":
        return torch.optim.SGD(learnt, lr=rules.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.Adam if rules.method == "adam" else torch.optim.AdamW
    return kind(learnt, lr=rules.lr, weight_decay=rules.weight_decay)


def rate_of(marks: Sequence[float], batch: int) -> float:
    """Return images a second from the second step to the last, of when each began, in seconds."""
    return batch * (len(marks) - 2) / (marks[-1] - marks[1])


def _wait(device: torch.device) -> None:
    """Wait for a GPU, which is given work ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("data")
    parser.add_argument("--recipe", default="default", metavar="NAME")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=12, help="of a round and loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.steps < 3 or options.rounds < 1:
        raise UsageError("--steps must be at least 3, and --rounds at least 1")
    recipe, device = (
        load_recipe(options.recipe, (*options.changes, *ONE_TRAINING)),
        device_of(options.device),
    )
    split = split_of(options.data, recipe, options.recipe)
    found = rates(split, recipe, device, options.steps, options.rounds)
    if options.json:
        print(json.dumps({"schema_version": 1, "ratio": found.ratio} | asdict(found)))
        return 0
    for name, values in (("ours", found.ours), ("bare PyTorch", found.bare)):
        spread = f"({min(values):.1f} to {max(values):.1f})"
        print(f"{name:14} {median(values):8.1f} images a second  {spread}")
    print(f"{'ratio':14} {found.ratio:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
