"""The training loop: bf16 where the processor has it, CUDA when there is one, resumable.

Every random draw depends on (seed, epoch, step) or (seed, epoch, image), so that a run that was
killed and resumed ends with the weights of an undisturbed one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_fgr.contract import Contract
from edge_fgr.errors import ModelError
from edge_fgr.progress import Advance, progress, say
from edge_fgr_train.augment import TrainingSet, mixer, seed_of
from edge_fgr_train.checkpoint import load_state, save_network, save_state
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.evaluate import figures_of, logits_of
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.parts import Split, contract_of, run_of
from edge_fgr_train.recipe import Optimise, Recipe

__all__ = ["Task", "train"]


class Task:
    """What kinds of training do each in their own way: this one fits a new network to labels.

    Attributes:
        source: the run that it starts from, if it does.
        exact: whether the network must be computed in fp32.
    """

    source, exact = "", False

    def __init__(self, recipe: Recipe, classes: int, device: torch.device) -> None:
        self.recipe, self.classes, self.device = recipe, classes, device

    def network(self) -> Network:
        """Return the network to start from; equal at every call."""
        recipe = self.recipe
        network = build_network(
            recipe.model,
            self.classes,
            pretrained=recipe.model.pretrained,
            size=recipe.geometry.size,
        )
        return network.to(self.device)

    def begin(self, network: Network) -> None:
        """Prepare for an epoch, which starts with ``network``."""

    def loss(self, network: Network, pixels: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch: pixels ``(N, H, W, 3)``, targets ``(N,)`` or ``(N, C)``."""
        logits = network(pixels).logits.float()
        smoothing = self.recipe.optimise.label_smoothing
        return nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)

    def result(self, network: Network) -> Network:
        """Return what is kept of the averaged ``network``."""
        return network


def train(
    split: Split, recipe: Recipe, folder: Path, device: torch.device, task: Task | None = None
) -> Contract:
    """Train, writing the run's folder after every epoch; resume when it holds a state.

    Raises:
        UsageError: the folder holds a run with another recipe or other data.
        ModelError: the loss is no longer a number, or the state is damaged.
    """
    labels = labels_of(split.fit)
    task = task or Task(recipe, len(labels), device)
    run = replace(run_of(split, recipe), source=task.source)
    contract = contract_of(split, recipe)
    rules = recipe.optimise
    parts, optimiser = _start(task)
    parts["soup"] = AveragedModel(parts["network"], use_buffers=True)

    state, done = folder / "state.safetensors", 0
    whole = rules.epochs * rules.members
    if state.exists():
        run.refuse_other(folder)
        done = load_state(state, parts, optimiser)
        say(f"resuming after epoch {done} of {whole}")
    else:
        run.write(folder)

    pictures = TrainingSet(split.fit, targets_of(split.fit, labels), recipe.augment, rules.seed)
    steps = len(pictures) // rules.batch or 1
    with progress((whole - done) * steps, "train") as advance:
        for epoch in range(done, whole):
            if epoch and epoch % rules.epochs == 0:  # the next member starts where the first did
                fresh, optimiser = _start(task)
                parts |= fresh
            loss = _epoch(parts, optimiser, pictures, task, epoch, steps, advance)
            best = parts["average"].module if rules.ema else parts["network"]
            if (epoch + 1) % rules.epochs == 0:
                parts["soup"].update_parameters(best)
                best = parts["soup"].module
            best = task.result(best)
            row: dict[str, float] = {"epoch": epoch + 1, "loss": round(loss, 4)}
            if split.evaluate:
                logits = logits_of(best, [s.path for s in split.evaluate], recipe.geometry)
                row |= figures_of(logits, targets_of(split.evaluate, labels), labels)
            save_network(folder, best, contract)
            save_state(state, parts, optimiser, epoch + 1)
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            say(json.dumps(row))
    return contract


def _start(task: Task) -> tuple[dict[str, Any], torch.optim.Optimizer]:
    """Return a network to start from, its moving average, and an optimiser; equal at every call."""
    rules = task.recipe.optimise
    torch.manual_seed(seed_of(rules.seed))
    network = task.network()
    average = AveragedModel(network, multi_avg_fn=_moving(rules.ema), use_buffers=True)
    return {"network": network, "average": average}, _optimiser(network, rules)


def _moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that starts short: min(decay, (1 + t) / (10 + t)) after t steps.

    So that a run of few steps is not an average of its own beginning.
    """

    def update(averages: Any, currents: Any, count: Any) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(now)(averages, currents, count)  # type: ignore[no-untyped-call]

    return update


def _epoch(
    parts: Mapping[str, Any],
    optimiser: torch.optim.Optimizer,
    pictures: TrainingSet,
    task: Task,
    epoch: int,
    steps: int,
    advance: Advance,
) -> float:
    """Run one epoch and return its mean loss."""
    rules, network = task.recipe.optimise, parts["network"]
    device = next(network.parameters()).device
    mix = mixer(task.recipe.augment, network.head.out_features)
    task.begin(network)
    network.train()
    pictures.epoch = epoch
    total = 0.0
    for step, (pixels, targets) in enumerate(_batches(pictures, rules, epoch, steps)):
        torch.manual_seed(seed_of(rules.seed, epoch, step, 1))
        x, y = pixels.to(device), targets.to(device)
        if mix is not None:
            x, y = mix(x.permute(0, 3, 1, 2).float(), y)
            x = x.permute(0, 2, 3, 1)
        _schedule(optimiser, rules, epoch % rules.epochs + step / steps)
        fast = not task.exact and _has_bf16(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            loss = task.loss(network, x, y)
        if not math.isfinite(loss.item()):
            raise ModelError(
                f"the loss became {loss.item()} in epoch {epoch + 1}, step {step + 1}; "
                "lower optimise.lr (the last finished epoch is kept)"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        parts["average"].update_parameters(network)
        total += loss.item()
        advance(
            1, f"epoch {epoch + 1}/{rules.epochs * rules.members} loss {total / (step + 1):.3f}"
        )
    return total / steps


def _batches(
    pictures: TrainingSet, rules: Optimise, epoch: int, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield full batches in an order that depends on (seed, epoch) alone."""
    order = torch.randperm(
        len(pictures), generator=torch.Generator().manual_seed(seed_of(rules.seed, epoch))
    ).tolist()
    for step in range(steps):
        drawn = [pictures[i] for i in order[step * rules.batch : (step + 1) * rules.batch]]
        yield torch.stack([pixels for pixels, _ in drawn]), torch.tensor([t for _, t in drawn])


def _optimiser(network: Network, rules: Optimise) -> torch.optim.Optimizer:
    groups: list[dict[str, object]] = []
    for part, factor in ((network.backbone, 1.0), (network.head, rules.head_factor)):
        for decay in (True, False):
            chosen = [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) is decay]
            groups.append(
                {
                    "params": chosen,
                    "factor": factor,
                    "weight_decay": rules.weight_decay if decay else 0.0,
                }
            )
    if rules.method == "sgd":
        return torch.optim.SGD(groups, lr=rules.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.Adam if rules.method == "adam" else torch.optim.AdamW
    return kind(groups, lr=rules.lr)


def _schedule(optimiser: torch.optim.Optimizer, rules: Optimise, now: float) -> None:
    """Set the rates at ``now`` (in epochs): linear warm-up, then what the recipe says."""
    if now < rules.warmup_epochs:
        share = (now + 0.01) / rules.warmup_epochs
    elif rules.schedule == "constant":
        share = 1.0
    else:
        rest = (now - rules.warmup_epochs) / max(rules.epochs - rules.warmup_epochs, 1e-9)
        share = 0.5 * (1 + math.cos(math.pi * rest))
    for group in optimiser.param_groups:
        group["lr"] = rules.lr * group["factor"] * share


def _has_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there, not merely emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
