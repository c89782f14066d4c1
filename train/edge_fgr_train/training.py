"""One epoch after the other: the steps, the moving average, members and the test resolution.

Every random draw depends on (seed, epoch, step) or (seed, epoch, image). Ranks share each batch:
they draw the pictures that one process would, mixed as it would mix them, and what is drawn for
single pictures inside the network (dropout) each for its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_fgr.errors import ModelError, UsageError
from edge_fgr.progress import Advance
from edge_fgr_train.augment import TrainingSet, seed_of, size_at
from edge_fgr_train.checkpoint import load_state, rows_of
from edge_fgr_train.collectives import mean_gradients, settle, spread
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.loading import draw_batches, mixer
from edge_fgr_train.network import Network
from edge_fgr_train.optimiser import fixer_of, last_norm, optimiser_of, set_rates
from edge_fgr_train.parts import Split
from edge_fgr_train.quick_backward import QuickBackward
from edge_fgr_train.ranks import Ranks
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.task import Task

__all__ = ["Training"]

_LONGEST_GRADIENT = 5.0


class Training:
    """What changes from step to step.

    Attributes:
        whole: epochs in all: of every member, and to fit the test resolution.
        steps: of an epoch.
        rows: what was measured after each finished epoch.
        parts: network, its moving average, the lesson's layers, and the mean of the members.
        mean_loss: of the last epoch.
    """

    def __init__(self, split: Split, recipe: Recipe, task: Task, ranks: Ranks) -> None:
        self._rules, self._recipe, self._task = recipe.optimise, recipe, task
        self._ranks = ranks
        self._judged = bool(split.evaluate)
        rules = self._rules
        self._fast = not task.exact and _is_fast(rules.precision, task.device)
        targets = targets_of(split.fit, labels_of(split.fit))
        ranks.refuse_uneven(min(rules.batch, len(targets)), rules.accumulate)
        self._pictures = TrainingSet(
            split.fit, targets, recipe.augment, recipe.geometry, rules.seed, ranks.neighbours
        )
        self._main = rules.epochs * rules.members
        self.whole = self._main + rules.fix_epochs
        self.steps = len(self._pictures) // rules.batch or 1
        self.rows: list[dict[str, float]] = []
        self.mean_loss = math.nan
        self.parts, self.optimiser = self._start()
        self.parts["soup"] = AveragedModel(self.parts["network"], use_buffers=True)

    @property
    def done(self) -> int:
        """How many epochs are finished."""
        return len(self.rows)

    def resume(self, state: Path) -> None:
        """Go on after the last finished epoch."""
        if len(rows_of(state)) > self._main:
            self.optimiser = fixer_of(self.parts["network"], self._rules)
        self.rows = load_state(state, self.parts, self.optimiser)
        self._ranks.say(f"resuming after epoch {self.done} of {self.whole}")

    def is_over(self) -> bool:
        """Whether patience has come to its end."""
        waited = self._waited()
        if waited and waited >= self._rules.patience:
            self._ranks.say(f"no better top-1 for {waited} epochs: stopped; the best is kept")
            return True
        return False

    def is_kept(self) -> bool:
        """Whether what the last epoch gave is the result so far."""
        return self._waited() == 0

    def _waited(self) -> int:
        """Return how many epochs ago the best one was; 0 where patience is not asked for."""
        if not (self._rules.patience and self._judged and self.rows):
            return 0
        scores = [row["top1"] for row in self.rows]
        return len(scores) - 1 - scores.index(max(scores))

    def epoch(self, advance: Advance) -> Network:
        """Train for one epoch; return what it gave."""
        rules, number = self._rules, self.done
        fixing = number >= self._main
        if fixing and number == self._main:
            self.parts["network"].load_state_dict(self._averaged().state_dict())
            self.optimiser = fixer_of(self.parts["network"], rules)
        elif number and not fixing and number % rules.epochs == 0:
            fresh, self.optimiser = self._start()  # the next member starts where the first did
            self.parts |= fresh
        network: Network = self.parts["network"]
        self._pictures.epoch = number
        self._pictures.still = self._recipe.geometry if fixing else None
        self._pictures.size = size_at(self._recipe.augment, number % rules.epochs, rules.epochs)
        self._task.begin(network)
        network.train()
        if fixing:
            _freeze(network, still=self._recipe.model.frozen_norms)
        self.mean_loss = self._steps(number, network, advance)
        settle(self._ranks, [self.parts[name] for name in ("network", "average", "lesson")])
        best = network if fixing else self._averaged()
        if rules.members > 1 and (number + 1) % rules.epochs == 0:
            self.parts["soup"].update_parameters(best)
            best = self.parts["soup"].module
        return self._task.result(best)

    def _averaged(self) -> Network:
        kept: Network = self.parts["average"].module if self._rules.ema else self.parts["network"]
        return kept

    def _start(self) -> tuple[dict[str, Any], torch.optim.Optimizer]:
        """Return a network to start from, and what goes with it; equal at every call."""
        rules = self._rules
        torch.manual_seed(seed_of(rules.seed))
        network = self._task.network()
        if _is_synced(rules.sync_norm, self._task, self._ranks):
            network = _synced(network)
        lesson = self._task.lesson(network)
        spread(self._ranks, [network, lesson])
        average = AveragedModel(network, multi_avg_fn=_moving(rules.ema), use_buffers=True)
        parts = {"network": network, "average": average, "lesson": lesson}
        return parts, optimiser_of(network, lesson, rules)

    def _steps(self, number: int, network: Network, advance: Advance) -> float:
        """Run the steps of an epoch and return their mean loss."""
        rules, fixing, ranks = self._rules, number >= self._main, self._ranks
        mix = None if fixing else mixer(self._recipe.augment, network.head.out_features)
        total = 0.0
        # A picture is mixed with the one before it, which may be the last of another rank.
        before = int(mix is not None and ranks.world > 1)
        sampler = self._recipe.balance.sampler
        drawn = draw_batches(
            self._pictures, rules.batch, rules.seed, self.steps, sampler, ranks, before
        )
        for step, (pixels, targets) in enumerate(drawn):
            torch.manual_seed(seed_of(rules.seed, number, step, 1))
            x, y = pixels.to(self._task.device), targets.to(self._task.device)
            if mix is not None:
                x, y = mix(x.permute(0, 3, 1, 2).float(), y)
                x, y = x.permute(0, 2, 3, 1)[before:], y[before:]
            if ranks.world > 1:
                torch.manual_seed(seed_of(rules.seed, number, step, 1, ranks.rank))
            now = rules.epochs + number - self._main if fixing else number % rules.epochs
            set_rates(self.optimiser, rules, now + step / self.steps)
            self.optimiser.zero_grad()
            loss = sum(self._gradient(a, b) for a, b in _pieces(x, y, rules.accumulate))
            learnt = _parameters(self.optimiser)
            loss = mean_gradients(ranks, learnt, loss)
            if not math.isfinite(loss):
                raise ModelError(
                    f"the loss became {loss} in epoch {number + 1}, step {step + 1}; "
                    "lower optimise.lr (the last finished epoch is kept)"
                )
            nn.utils.clip_grad_norm_(learnt, _LONGEST_GRADIENT)
            self.optimiser.step()
            if not fixing:
                self.parts["average"].update_parameters(network)
            total += loss
            advance(1, f"epoch {number + 1}/{self.whole} loss {total / (step + 1):.3f}")
        return total / self.steps

    def _gradient(self, pixels: Tensor, targets: Tensor) -> float:
        """Add the gradient of a piece of a batch; return its share of the loss."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self._fast):
            loss = self._task.loss(self.parts["network"], self.parts["lesson"], pixels, targets)
            loss = loss / self._rules.accumulate
        quick = QuickBackward() if self._fast else nullcontext()  # type: ignore[no-untyped-call]
        with quick:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def _pieces(x: Tensor, y: Tensor, count: int) -> Sequence[tuple[Tensor, Tensor]]:
    return list(zip(x.chunk(count), y.chunk(count), strict=True))


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _freeze(network: Network, *, still: bool) -> None:
    """Leave only the last norm, unless it shall stay still, and the dropout in training."""
    network.eval()
    network.dropout.train()
    if (norm := last_norm(network)) is not None and not still:
        norm.train()


def _is_synced(wanted: str, task: Task, ranks: Ranks) -> bool:
    """Whether BatchNorms shall see the pictures of all ranks.

    Raises:
        UsageError: it is asked for where PyTorch has no such thing.
    """
    if wanted == "on" and task.device.type != "cuda":
        raise UsageError(
            "recipe: optimise.sync_norm = on needs CUDA, PyTorch has it nowhere else; use "
            "auto, or model.frozen_norms"
        )
    # What is computed in exact numbers (for INT8) keeps its statistics, and BatchNorms by name.
    return wanted != "off" and task.device.type == "cuda" and ranks.world > 1 and not task.exact


def _synced(network: Network) -> Network:
    """Return the network with SyncBatchNorms, under the same names and with the same weights."""
    # PyTorch's own function would lose the activations that timm keeps in its BatchNorms.
    from timm.layers.norm_act import convert_sync_batchnorm

    synced: Network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synced


def _moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that starts short: min(decay, (1 + t) / (10 + t)) after t steps.

    So that a run of few steps is not an average of its own beginning.
    """

    def update(averages: Any, currents: Any, count: Any) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averages, currents, count)  # type: ignore[no-untyped-call]

    return update


def _is_fast(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: as asked for, else where it is fast, not merely emulated."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
