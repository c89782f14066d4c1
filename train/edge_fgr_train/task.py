"""What a network learns: from labels, from teachers, from shuffled parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edge_fgr.contract import Label
from edge_fgr_train.classifiers import rebalanced
from edge_fgr_train.input_size import check_tiles
from edge_fgr_train.losses import LabelLoss
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.shuffling import Lesson, lesson_of
from edge_fgr_train.teachers import Teachers
from edge_fgr_train.tiles import good_of

__all__ = ["Task"]


class Task:
    """What kinds of training do each in their own way: this one fits a new network to labels.

    ``counts`` are the images of each class; a recipe without ``balance`` does not look at them.

    Attributes:
        source: the run that it starts from, if it does.
        exact: whether the network must be computed in fp32.
    """

    source, exact = "", False

    def __init__(
        self,
        recipe: Recipe,
        labels: Sequence[Label],
        device: torch.device,
        counts: Sequence[int] = (),
    ) -> None:
        self.recipe, self.classes, self.device = recipe, len(labels), device
        check_tiles(recipe)
        self._good = good_of(recipe.model, labels)
        self._counts = counts
        smoothing = recipe.optimise.label_smoothing
        self._by_labels = LabelLoss(recipe.balance, recipe.model, smoothing, counts, device)
        self._teachers = Teachers(recipe.teacher, labels, device)

    def network(self) -> Network:
        """Return the network to start from; equal at every call with equal random state."""
        recipe = self.recipe
        network = build_network(
            recipe.model,
            self.classes,
            pretrained=recipe.model.pretrained,
            size=recipe.geometry.size,
            good=self._good,
        )
        return network.to(self.device)

    def lesson(self, network: Network) -> Lesson:
        """Return what is learnt beside the labels, and its layers."""
        return lesson_of(self.recipe.parts, network).to(self.device)

    def begin(self, network: Network) -> None:
        """Prepare for an epoch, which starts with ``network``."""

    def loss(self, network: Network, lesson: Lesson, pixels: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch: pixels ``(N, H, W, 3)``, targets ``(N,)`` or ``(N, C)``."""
        taught = self._teachers.shares(pixels) if self._teachers else None

        def judge(logits: Tensor) -> Tensor:
            loss = self._by_labels(logits.float(), targets)
            return self._teachers.loss(logits.float(), taught, loss) if taught is not None else loss

        found: Tensor = lesson(network, pixels, judge)
        return found

    def result(self, network: Network) -> Network:
        """Return what is kept of the averaged ``network``."""
        return rebalanced(network, self.recipe.balance, self._counts)
