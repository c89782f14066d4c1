"""The training loop: bf16 where the processor has it, CUDA when there is one, resumable.

Every random draw depends on (seed, epoch, step) or (seed, epoch, image), so that a run that was
killed and resumed ends with the weights of an undisturbed one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_fgr.contract import Contract
from edge_fgr.errors import ModelError
from edge_fgr.files import atomic_write
from edge_fgr.progress import Advance, progress, say
from edge_fgr_train.augment import TrainingSet, seed_of, size_at
from edge_fgr_train.checkpoint import load_state, rows_of, save_network, save_state
from edge_fgr_train.dataset import counts_of, labels_of, targets_of
from edge_fgr_train.finish import judged, refit
from edge_fgr_train.loading import draw_batches, mixer
from edge_fgr_train.network import Network
from edge_fgr_train.optimiser import fixer_of, last_norm, optimiser_of, set_rates
from edge_fgr_train.parts import Split, contract_of, run_of
from edge_fgr_train.quick_backward import QuickBackward
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.task import Task

__all__ = ["train"]

_LONGEST_GRADIENT = 5.0


def train(
    split: Split, recipe: Recipe, folder: Path, device: torch.device, task: Task | None = None
) -> Contract:
    """Train, writing the run's folder after every epoch; resume when it holds a state.

    Raises:
        UsageError: the folder holds a run with another recipe or other data; a teacher or a part of
            the recipe does not fit.
        ModelError: the loss is no longer a number, or the state is damaged.
        OutputError: the folder cannot be written.
    """
    labels = labels_of(split.fit)
    task = task or Task(recipe, labels, device, counts_of(split.fit, labels))
    run = replace(run_of(split, recipe), source=task.source)
    contract = contract_of(split, recipe)
    training = _Training(split, recipe, task)
    state = folder / "state.safetensors"
    if state.exists():
        run.refuse_other(folder, contract)
        training.resume(state)
    else:
        run.write(folder)
    with progress((training.whole - training.done) * training.steps, "train") as advance:
        while training.done < training.whole and not training.is_over():
            best = training.epoch(advance)
            row: dict[str, float] = {
                "epoch": training.done + 1,
                "loss": round(training.mean_loss, 4),
            }
            if split.evaluate:
                row |= judged(best, split, contract)
            training.rows.append(row)
            if training.is_kept():
                save_network(folder, best.finished(), contract)
            save_state(state, training.parts, training.optimiser, training.rows)
            log = "".join(json.dumps(each) + "\n" for each in training.rows)
            atomic_write(folder / "log.jsonl", log)
            say(json.dumps(row))
    if recipe.model.refit != "none" or recipe.balance.classifier == "crt":
        refit(folder, split, device)
    return contract


class _Training:
    """What changes from step to step.

    Attributes:
        whole: epochs in all: of every member, and to fit the test resolution.
        steps: of an epoch.
        rows: what was measured after each finished epoch.
        parts: network, its moving average, the lesson's layers, and the mean of the members.
        mean_loss: of the last epoch.
    """

    def __init__(self, split: Split, recipe: Recipe, task: Task) -> None:
        self._rules, self._recipe, self._task = recipe.optimise, recipe, task
        self._judged = bool(split.evaluate)
        rules = self._rules
        self._fast = not task.exact and _is_fast(rules.precision, task.device)
        targets = targets_of(split.fit, labels_of(split.fit))
        self._pictures = TrainingSet(
            split.fit, targets, recipe.augment, recipe.geometry, rules.seed
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
        say(f"resuming after epoch {self.done} of {self.whole}")

    def is_over(self) -> bool:
        """Whether patience has come to its end."""
        waited = self._waited()
        if waited and waited >= self._rules.patience:
            say(f"no better top-1 for {waited} epochs: stopped; the best is kept")
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
            _freeze(network)
        self.mean_loss = self._steps(number, network, advance)
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
        lesson = self._task.lesson(network)
        average = AveragedModel(network, multi_avg_fn=_moving(rules.ema), use_buffers=True)
        parts = {"network": network, "average": average, "lesson": lesson}
        return parts, optimiser_of(network, lesson, rules)

    def _steps(self, number: int, network: Network, advance: Advance) -> float:
        """Run the steps of an epoch and return their mean loss."""
        rules, fixing = self._rules, number >= self._main
        mix = None if fixing else mixer(self._recipe.augment, network.head.out_features)
        total = 0.0
        sampler = self._recipe.balance.sampler
        drawn = draw_batches(self._pictures, rules.batch, rules.seed, self.steps, sampler)
        for step, (pixels, targets) in enumerate(drawn):
            torch.manual_seed(seed_of(rules.seed, number, step, 1))
            x, y = pixels.to(self._task.device), targets.to(self._task.device)
            if mix is not None:
                x, y = mix(x.permute(0, 3, 1, 2).float(), y)
                x = x.permute(0, 2, 3, 1)
            now = rules.epochs + number - self._main if fixing else number % rules.epochs
            set_rates(self.optimiser, rules, now + step / self.steps)
            self.optimiser.zero_grad()
            loss = sum(self._gradient(a, b) for a, b in _pieces(x, y, rules.accumulate))
            if not math.isfinite(loss):
                raise ModelError(
                    f"the loss became {loss} in epoch {number + 1}, step {step + 1}; "
                    "lower optimise.lr (the last finished epoch is kept)"
                )
            nn.utils.clip_grad_norm_(_parameters(self.optimiser), _LONGEST_GRADIENT)
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


def _freeze(network: Network) -> None:
    """Leave only the last norm and the dropout in training."""
    network.eval()
    network.dropout.train()
    if (norm := last_norm(network)) is not None:
        norm.train()


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
