"""Quantisation-aware fine-tuning: a run's network learns to say in INT8 what it said in fp32.

The network is computed as its INT8 graph will be (``rounded``) and taught by the run's own fp32
network, on the same pictures: soft targets (Hinton et al. 2015, "Distilling the Knowledge in a
Neural Network", section 2) and the embedding, which has more to tell than logits where classes are
few. Labels are not looked at. Ranges are chosen anew before every epoch and stay during it;
BatchNorms keep their statistics. What is saved has its weights on the grid of 8 bits: the exporter
finds nothing to round but activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edge_fgr.errors import DataError, UsageError
from edge_fgr_train.batches import batches
from edge_fgr_train.checkpoint import Run, epochs_of, load_network
from edge_fgr_train.dataset import Sample, labels_of
from edge_fgr_train.loop import train
from edge_fgr_train.network import Network, as_finished
from edge_fgr_train.parts import Split, split_again
from edge_fgr_train.ranks import ALONE, Ranks
from edge_fgr_train.recipe import (
    Augment,
    Balance,
    Optimise,
    Parts,
    Recipe,
    Teacher,
    change_recipe,
)
from edge_fgr_train.rounded import RoundedNetwork
from edge_fgr_train.shuffling import Lesson
from edge_fgr_train.task import Task

__all__ = ["fine_tune"]

_TEMPERATURE = 2.0
_RANGE_IMAGES = 256
_RANGE_BATCH = 8
_CHANGEABLE = ("augment", "licence", "name", "notes", "optimise", "version")


def fine_tune(
    source: Path,
    data: str | None,
    changes: Sequence[str],
    folder: Path,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> tuple[Recipe, Split]:
    """Fine-tune the network of the run ``source`` for INT8 into the run ``folder``.

    Args:
        source: a finished run of a network.
        data: where its data set is now; None: where it was.
        changes: ``section.key=value`` items, of augment and optimise.
        folder: of the new run; resumes what was interrupted.
        device: where to compute.
        ranks: the processes that do this together; each reads ``source``.

    Returns:
        Recipe and images of the new run.

    Raises:
        InputMissingError: there is no such run, or its data are gone.
        UsageError: the run is a chain or not finished, or a change cannot be meant.
        DataError: the images are of other classes now.
        ModelError: the run is damaged, or its network has no integer form.
    """
    made = _finished(source, folder)
    recipe = _recipe_of(made, changes)
    split = split_again(made, data, "say where the run's data are now")
    teacher, contract, _ = load_network(source)
    if labels_of(split.fit) != contract.labels:
        raise DataError(f"{split.origin}: has other classes now than {source} was trained on")
    ranks.say(f"{recipe.name}: learns from {source} to be INT8, on {len(split.fit)} images")
    task = _Task(recipe, source, teacher, split.fit, device)
    train(split, recipe, folder, device, task, ranks)
    return recipe, split


class _Task(Task):
    """Distillation from the network of a run to the same network, rounded."""

    exact = True

    def __init__(
        self,
        recipe: Recipe,
        source: Path,
        teacher: Network,
        fit: Sequence[Sample],
        device: torch.device,
    ) -> None:
        super().__init__(recipe, labels_of(fit), device)
        self.source = str(source.resolve())
        self._teacher = teacher.to(device).requires_grad_(False).eval()
        self._rounded = RoundedNetwork(self._teacher, recipe.geometry.size)
        step = -(-len(fit) // _RANGE_IMAGES)
        self._paths = [sample.path for sample in fit[::step]]

    def network(self) -> Network:
        """Return a copy of the teacher, all of it to be trained."""
        network, _, _ = load_network(Path(self.source))
        return network.to(self.device).requires_grad_()

    def begin(self, network: Network) -> None:
        """Choose the ranges on training images, read as the device reads them."""
        found = batches(self._paths, self.recipe.geometry, _RANGE_BATCH)
        self._rounded.observe(network, (torch.from_numpy(x).to(self.device) for x in found))

    def loss(self, network: Network, lesson: Lesson, pixels: Tensor, targets: Tensor) -> Tensor:
        """Return how far the rounded network is from the teacher, for each image."""
        del lesson, targets
        with torch.no_grad():
            wanted = self._teacher(pixels)
        found = self._rounded(network, pixels)
        soft = functional.kl_div(
            functional.log_softmax(found.logits / _TEMPERATURE, 1),
            functional.log_softmax(wanted.logits / _TEMPERATURE, 1),
            reduction="batchmean",
            log_target=True,
        )
        apart = functional.mse_loss(found.embedding, wanted.embedding)
        loss: Tensor = soft * _TEMPERATURE**2 + apart / wanted.embedding.var().clamp_min(1e-12)
        return loss

    def result(self, network: Network) -> Network:
        """Return ``network`` with its weights rounded for good."""
        return self._rounded.settled(network)


def _finished(source: Path, folder: Path) -> Run:
    """Read a run that can be fine-tuned."""
    made = Run.read(source)
    if source.resolve() == folder.resolve():
        raise UsageError(f"{folder}: is the run to learn from; name a new folder with -o")
    if made.base or made.recipe.chain is not None:
        raise UsageError(
            f"{source}: a chain (--head), whose backbone is not trained; fine-tune a run made "
            "without --head, or deploy the fp32 file"
        )
    if made.recipe.model.pool != "mean":
        raise UsageError(
            f"{source}: {made.recipe.model.pool} pooling stays float, which --qat does not "
            "compute; export the run as it is"
        )
    if made.recipe.model.tiles > 1:
        raise UsageError(
            f"{source}: decides by tiles, which --qat does not compute; export the run as it is"
        )
    if made.recipe.model.mirrors > 1:
        raise UsageError(
            f"{source}: judges mirrored copies, which --qat does not compute; export it as it is"
        )
    rules, done = made.recipe.optimise, epochs_of(source)
    if done is not None and done < rules.epochs * rules.members:
        raise UsageError(f"{source}: its training was interrupted; resume it first")
    return made


def _recipe_of(made: Run, changes: Sequence[str]) -> Recipe:
    """Return the run's recipe for a short and gentle training at the size of the device.

    Many small steps: with batches of 32 and a rate of 1e-4 the network went further from its
    teacher than INT8 had been (docs/qat.md).
    """
    old = made.recipe
    for change in changes:
        if change.partition("=")[0].partition(".")[0].strip() not in _CHANGEABLE:
            raise UsageError(
                f"--set {change}: with --qat only {', '.join(_CHANGEABLE)} can be changed; the "
                "rest is the run's"
            )
    recipe = replace(
        old,
        model=replace(as_finished(old.model), dropout=0.0, drop_path=0.0, frozen=0),
        augment=Augment(size=old.geometry.size, crop_min=0.6, flip=old.augment.flip, jitter=0.1),
        parts=Parts(),
        balance=Balance(),
        teacher=Teacher(),
        optimise=Optimise(
            epochs=2,
            batch=8,
            lr=2e-5,
            head_factor=1.0,
            weight_decay=0.0,
            warmup_epochs=0.0,
            label_smoothing=0.0,
            ema=0.98,
            seed=old.optimise.seed,
        ),
    )
    recipe = change_recipe(recipe, changes)
    if recipe.augment.size != old.geometry.size:
        raise UsageError(
            f"augment.size: ranges depend on the size; with --qat it stays {old.geometry.size}"
        )
    return recipe
