"""The network as the graph will be: uint8 pixels in; logits, embedding and features out."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from edge_fgr.errors import DeviceError, UsageError
from edge_fgr_train.backbones import Backbone, create_backbone
from edge_fgr_train.heads import CosineHead, new_head
from edge_fgr_train.mirrors import copies, together
from edge_fgr_train.pooling import Levels, pooling, unit_length
from edge_fgr_train.tiles import cut, soft_worst, stitch, worst

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr_train.settings import Model

__all__ = ["Network", "Outputs", "as_finished", "build_network", "device_of"]


class Outputs(NamedTuple):
    """logits ``(N, C)``, embedding ``(N, D)`` and features ``(N, K, h, w)``, all float."""

    logits: Tensor
    embedding: Tensor
    features: Tensor


class Network(nn.Module):
    """A backbone, pooling and a head; takes pixels ``(N, H, W, 3)``, 0 to 255.

    With ``model.l2`` the head sees the embedding scaled to length 1; the embedding that comes out
    is the plain one.

    With ``model.tiles`` each tile of a picture is seen alone. In evaluation logits and embedding
    are those of its worst tile; in training logits come from all of them. Features are those of all
    tiles, at their places.

    With ``model.mirrors`` features, and all that follows, are the means over mirrored copies, in
    evaluation.

    Attributes:
        channels: K of the features.
        mirrors: copies of a picture that are judged together.
        tiles: along each side of the picture.
        good: the class that means "nothing found"; None: none.

    Raises:
        UsageError: the backbone has no such parts as the recipe names.
    """

    def __init__(
        self, backbone: Backbone, classes: int, model: Model, good: int | None = None
    ) -> None:
        super().__init__()
        self.mirrors, self.tiles, self.good = model.mirrors, model.tiles, good
        self.backbone = backbone.module
        self.channels = backbone.channels or backbone.width
        self.gives, self.l2 = backbone.gives, model.l2 or model.head != "linear"
        # One number where all channels agree: the exporter folds that into a quantisation.
        self._mean, self._std = (
            values[0] if len(set(values)) == 1 else torch.tensor(values).reshape(3, 1, 1)
            for values in (backbone.mean, backbone.std)
        )
        self._frozen, self._frozen_norms = model.frozen, model.frozen_norms
        for part in self._frozen_parts():
            part.requires_grad_(False)
        width = backbone.width
        self.pool: nn.Module | None = None
        if model.pool != "mean":
            if self.gives != "map":
                raise UsageError(
                    f"recipe: model.pool {model.pool} needs a backbone that gives a map of "
                    f"features; {model.backbone} gives an embedding: choose mean"
                )
            self.pool, width = pooling(model.pool, self.backbone, width, model.rank)
        if self.mirrors > 1 and self.gives != "map":
            raise UsageError(
                f"recipe: model.mirrors needs a backbone that gives a map of features; "
                f"{model.backbone} gives none: set it to 1"
            )
        self.dropout = nn.Dropout(model.dropout)
        self.head = new_head(width, classes, model)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, but leave frozen normalisation layers on their statistics."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        for part in self.backbone.modules() if self._frozen_norms else ():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module]:
        if not self._frozen:
            return []
        body: Any = self.backbone
        if not hasattr(body, "conv_stem") or not hasattr(body, "bn1"):
            raise UsageError("recipe: model.frozen is for EfficientNets; set it to 0")
        return [body.conv_stem, body.bn1, *body.blocks[: self._frozen]]

    def forward(self, pixels: Tensor) -> Outputs:
        """Pixels are uint8, or float in the same range where augmentation mixed them."""
        if self.tiles > 1:
            pixels = cut(pixels, self.tiles)
        mirrors = 1 if self.training else self.mirrors
        if mirrors > 1:
            pixels = copies(pixels, mirrors)
        # NHWC seen as NCHW is torch's channels-last layout: no copy.
        x = (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._std  # (N, 3, H, W)
        if isinstance(self.pool, Levels):
            stages = self.pool.features(self.backbone, x)
        else:
            stages = (self.backbone(x),)
        if mirrors > 1:
            stages = tuple(together(features, mirrors) for features in stages)
        features = stages[-1]
        if self.pool is not None:
            embedding = self.pool(*stages)
        elif self.gives == "map":
            embedding = features.mean((2, 3))  # (N, D)
        elif self.gives == "grid":
            embedding = features.flatten(1)
        else:  # an embedding alone: a map of one position
            embedding, features = features, features[:, :, None, None]
        seen = unit_length(embedding) if self.l2 else embedding
        found = Outputs(self.head(self.dropout(seen)), embedding, features)
        return self._decided(found) if self.tiles > 1 else found

    def _decided(self, found: Outputs) -> Outputs:
        """Return what tiles ``(N * T, …)`` say of their pictures."""
        logits, embedding = (
            part.reshape(-1, self.tiles**2, part.shape[1])
            for part in (found.logits, found.embedding)
        )  # (N, T, C), (N, T, D)
        rows, place = torch.arange(len(logits), device=logits.device), worst(logits, self.good)
        decided = soft_worst(logits, self.good) if self.training else logits[rows, place]
        return Outputs(decided, embedding[rows, place], stitch(found.features, self.tiles))

    def single(self) -> Network:
        """Return the network of one tile, or of the picture alone, with the very same weights."""
        one = copy(self)
        one.tiles = one.mirrors = 1
        return one

    @torch.no_grad()
    def take_head(self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
        """Put a linear head ``(C, D)`` and ``(C,)`` that was computed in the place of its own."""
        self.head.weight.copy_(torch.from_numpy(weight))
        self.head.bias.copy_(torch.from_numpy(bias))

    def finished(self) -> dict[str, Tensor]:
        """Return the weights of the network as it is kept: with a linear head, on any training."""
        state = self.state_dict()
        if isinstance(self.head, CosineHead):
            state["head.weight"] = self.head.directions().detach()
        return state

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the normalisation's numbers along; they are no parameters and not saved."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in ("_mean", "_std"):
            if isinstance(value := getattr(self, name), Tensor):
                setattr(self, name, fn(value))
        return self


def build_network(
    model: Model,
    classes: int,
    *,
    pretrained: bool,
    size: int = 0,
    finished: bool = False,
    good: int | None = None,
) -> Network:
    """Build a backbone by name with a fresh head for ``classes``.

    Args:
        model: what to build.
        classes: number of logits.
        pretrained: start from ImageNet weights.
        size: side of the input in pixels; only the teaching CNN depends on it.
        finished: for the weights of a run's result: any head is linear there.
        good: with tiles, the class that means "nothing found".

    Raises:
        UsageError: the backbone is not known, or has no such parts as the recipe names.
        MissingExtraError, UnavailableError: its weights are not installed, or cannot be fetched.
    """
    backbone = create_backbone(
        model.backbone, pretrained=pretrained, drop_path=model.drop_path, size=size // model.tiles
    )
    if finished:
        model = as_finished(model)
    return Network(backbone, classes, model, good).to(memory_format=torch.channels_last)


def as_finished(model: Model) -> Model:
    """Return what describes the network of a run's result: its head is linear."""
    unit = model.l2 or model.head != "linear" or model.refit != "none"
    return replace(model, head="linear", refit="none", l2=unit)


def device_of(name: str) -> torch.device:
    """Return where to compute: ``auto``, ``cpu`` or ``cuda``, which is never a silent fallback.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("cuda: PyTorch finds no usable GPU here; choose --device cpu")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
