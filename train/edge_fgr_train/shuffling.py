"""Shuffled parts of pictures, in training alone: whoever knows the details needs no outline.

Pictures are pixels ``(N, H, W, 3)``, cut into ``grid`` x ``grid`` tiles; what does not fill a tile
at the right and at the bottom stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_fgr.errors import UsageError
from edge_fgr_train.network import Network, Outputs
from edge_fgr_train.settings import Parts

__all__ = ["Lesson", "anywhere", "lesson_of", "neighbours", "shuffle"]

Judge = Callable[[Tensor], Tensor]
"""From logits to the loss by the labels."""

_REACH = 2
"""DCL: a tile moves by less than so many places within its row, and within its column."""

_GRIDS = (8, 4, 2)
"""PMG: tiles along a side for each stage, the earliest first."""

_WIDTH = 256
"""PMG: channels of what an earlier stage is judged by."""


def shuffle(pixels: Tensor, order: Tensor) -> Tensor:
    """Return pictures whose place i holds the tile that was at ``order[:, i]``, ``(N, grid²)``."""
    grid = round(order.shape[1] ** 0.5)
    count, side = len(pixels), min(pixels.shape[1:3]) // grid
    end = grid * side
    tiles = pixels[:, :end, :end].reshape(count, grid, side, grid, side, 3).transpose(2, 3)
    tiles = tiles.reshape(count, grid * grid, side, side, 3)
    moved = tiles[torch.arange(count, device=order.device)[:, None], order]
    moved = moved.reshape(count, grid, grid, side, side, 3).transpose(2, 3)
    result = pixels.clone()
    result[:, :end, :end] = moved.reshape(count, end, end, 3)
    return result


def anywhere(count: int, grid: int) -> Tensor:
    """Draw an order ``(count, grid²)``: every tile may go everywhere."""
    return torch.rand(count, grid * grid).argsort(1)


def neighbours(count: int, grid: int) -> Tensor:
    """Draw an order ``(count, grid²)``: tiles stay near (Chen et al. 2019, section 3.1)."""
    places = torch.arange(grid).expand(count, grid, grid)

    def drawn() -> Tensor:
        return (places + (2 * torch.rand(count, grid, grid) - 1) * _REACH).argsort(2)

    columns = drawn()  # (N, row, place): the column that comes there
    rows = drawn().transpose(1, 2)  # (N, place, column): the row that comes there
    start = torch.arange(grid * grid).reshape(grid, grid).expand(count, grid, grid)
    return start.gather(2, columns).gather(1, rows).reshape(count, -1)


class Lesson(nn.Module):
    """What is learnt beside the labels, and the layers that serve this alone: they are not kept."""

    def forward(self, network: Network, pixels: Tensor, judge: Judge) -> Tensor:
        """Return the loss of a batch of pixels ``(N, H, W, 3)``, float."""
        loss: Tensor = judge(network(pixels).logits)
        return loss


class _Jigsaw(Lesson):
    """Now and then all pictures of a batch are shuffled (Du et al. 2020, section 3.3)."""

    def __init__(self, rules: Parts) -> None:
        super().__init__()
        self._rules = rules

    def forward(self, network: Network, pixels: Tensor, judge: Judge) -> Tensor:
        """Return the loss of a batch."""
        if torch.rand(()) < self._rules.share:
            order = anywhere(len(pixels), self._rules.grid)
            pixels = shuffle(pixels, order.to(pixels.device))
        return super().forward(network, pixels, judge)


class _Construction(Lesson):
    """Beside each picture one that is destructed (Chen et al. 2019).

    Its class is to be told (section 3.1), whether it is the one or the other, and where its tiles
    came from (section 3.2), with the weights of the paper, all 1.
    """

    def __init__(self, width: int, channels: int, grid: int) -> None:
        super().__init__()
        self._grid = grid
        self.adversary = nn.Linear(width, 2)
        self.places = nn.Conv2d(channels, 2, 1)

    def forward(self, network: Network, pixels: Tensor, judge: Judge) -> Tensor:
        """Return the loss of a batch."""
        count, device = len(pixels), pixels.device
        straight = torch.arange(self._grid**2).expand(count, -1)
        order = torch.cat([straight, neighbours(count, self._grid)]).to(device)
        both = torch.cat([pixels, shuffle(pixels, order[count:])])
        out: Outputs = network(both)
        told = judge(out.logits[:count]) + judge(out.logits[count:])
        is_straight = torch.arange(2 * count, device=device) < count
        seen = functional.cross_entropy(self.adversary(out.embedding).float(), is_straight.long())
        cells = functional.adaptive_avg_pool2d(out.features, self._grid)
        found = self.places(cells).float().tanh().flatten(2)  # (2 N, 2, grid²)
        rows, columns = order // self._grid, order % self._grid
        where = torch.stack([rows, columns], 1) * (2 / (self._grid - 1)) - 1
        loss: Tensor = told + seen + (found - where).abs().mean()
        return loss


class _Granularities(Lesson):
    """Earlier stages tell classes from jigsaws of finer tiles (Du et al. 2020).

    Each batch is seen whole, and as a jigsaw of one of the three granularities, by the stage that
    it is for. (In the paper every batch is seen at all of them, in four steps of the optimiser.)
    """

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__()
        blocks: Any = getattr(network.backbone, "blocks", None)
        if blocks is None or len(blocks) < 4:
            raise UsageError("recipe: parts.method pmg is for EfficientNets; choose jigsaw or dcl")
        self._stages = (len(blocks) - 3, len(blocks) - 2)
        self.judges = nn.ModuleList()
        for stage in self._stages:
            last = [part for part in blocks[stage].modules() if isinstance(part, nn.Conv2d)][-1]
            self.judges.append(
                nn.Sequential(
                    nn.Conv2d(last.out_channels, _WIDTH, 1, bias=False),
                    nn.BatchNorm2d(_WIDTH),
                    nn.ReLU(),
                    nn.AdaptiveMaxPool2d(1),
                    nn.Flatten(),
                    nn.Linear(_WIDTH, classes),
                )
            )

    def forward(self, network: Network, pixels: Tensor, judge: Judge) -> Tensor:
        """Return the loss of a batch."""
        level = int(torch.randint(len(_GRIDS), ()))
        order = anywhere(len(pixels), _GRIDS[level]).to(pixels.device)
        jigsaw = shuffle(pixels, order)
        whole = super().forward(network, pixels, judge)
        if level == len(self._stages):  # the last stage is the network itself
            return whole + super().forward(network, jigsaw, judge)
        seen: list[Tensor] = []
        blocks: Any = network.backbone.blocks
        hook = blocks[self._stages[level]].register_forward_hook(
            lambda _module, _input, output: seen.append(output)
        )
        try:
            network(jigsaw)
        finally:
            hook.remove()
        loss: Tensor = whole + judge(self.judges[level](seen[0]))
        return loss


def lesson_of(rules: Parts, network: Network) -> Lesson:
    """Return the lesson of a recipe.

    Raises:
        UsageError: the backbone has no stages that it could teach.
    """
    if rules.method == "jigsaw":
        return _Jigsaw(rules)
    if rules.method == "dcl":
        return _Construction(network.head.in_features, network.channels, rules.grid)
    if rules.method == "pmg":
        return _Granularities(network, network.head.out_features)
    return Lesson()
