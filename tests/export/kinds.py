"""Small networks of other kinds than the shipped one, exported.

Untrained backbones with the statistics of the photos in their BatchNorms, and heads fitted to the
photos' classes: logits that mean something, without a training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edge_fgr.contract import Contract, Geometry
from edge_fgr.model import Model, open_model
from edge_fgr_export.command import stamp
from edge_fgr_export.graph import from_network
from edge_fgr_export.quantise import groups_of, kernels_of, quantise
from edge_fgr_export.ranges import Statistics, collect
from edge_fgr_train.backbones import Backbone, create_backbone
from edge_fgr_train.batches import batches
from edge_fgr_train.network import Network
from edge_fgr_train.recipe import Model as Recipe

__all__ = [
    "HALF",
    "IMAGENET",
    "Exported",
    "Mixed",
    "export",
    "fitted",
    "grid",
    "inverted",
    "resnet",
    "settled",
]

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = ((127.5,) * 3,) * 2


def grid() -> Backbone:
    return create_backbone("teaching_cnn", pretrained=False, size=32)


def resnet() -> Backbone:
    """ResNet-18's operators, in fewer and narrower blocks."""
    import timm

    body = timm.create_model(
        *("resnet18", False), num_classes=0, global_pool="", layers=(2, 1, 1, 1),
        channels=(16, 24, 24, 24), zero_init_last=False,
    )  # fmt: skip
    return Backbone(body, 24, *IMAGENET)


def inverted() -> Backbone:
    """MobileNet-V2, narrow: built of stages as EfficientNets are."""
    import timm

    body = timm.create_model("mobilenetv2_035", num_classes=0, global_pool="")
    return Backbone(body, 1280, *IMAGENET)


class Mixed(nn.Module):
    """What the networks of the shelf have one by one: convolutions in groups, a depthwise one with
    two outputs a channel, a ReLU that is not alone in reading, and a layer after the pooling.
    """

    def __init__(self) -> None:
        super().__init__()

        def layer(*arguments: int, **options: int) -> nn.Module:
            conv = nn.Conv2d(*arguments, bias=False, **options)
            return nn.Sequential(conv, nn.BatchNorm2d(arguments[1]))

        self.stem = layer(3, 16, 3, stride=2, padding=1)
        self.grouped = layer(16, 24, 3, padding=1, groups=4)
        self.wider = layer(24, 48, 3, padding=1, groups=24)
        self.back = layer(48, 16, 1)
        self.last = layer(16, 40, 1)

    def forward(self, x):
        x = self.stem(x)
        y = torch.relu(self.wider(nn.functional.relu6(self.grouped(torch.relu(x)))))
        x = self.back(y) + x
        pooled = nn.functional.adaptive_avg_pool2d(x, 1)
        return torch.relu(self.last(pooled)).flatten(1)


@dataclass
class Exported:
    network: Network
    contract: Contract
    fp32: onnx.ModelProto
    int8: onnx.ModelProto
    seen: Statistics
    paths: dict[str, Path]

    def open(self, which: str, threads: int = 1) -> Model:
        return open_model(self.paths[which], device="cpu", threads=threads)


def settled(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    """Give BatchNorms the statistics of ``pixels``; return their embeddings."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # a plain average
    with torch.inference_mode():
        network.train()(pixels)
        embedding: torch.Tensor = network.eval()(pixels).embedding
    return embedding


def fitted(backbone: Backbone, photos: list[Path], geometry: Geometry, *, l2: bool) -> Network:
    torch.manual_seed(0)
    names = [photo.stem.rpartition("_")[0] for photo in photos]
    classes = sorted(set(names))
    network = Network(backbone, len(classes), Recipe(dropout=0.0, l2=l2))
    network.to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(np.concatenate(list(batches(photos, geometry))))
    with torch.inference_mode():
        seen = settled(network, pixels)
        if l2:
            seen = seen / seen.norm(dim=1, keepdim=True)
        wanted = 8 * torch.eye(len(classes))[[classes.index(name) for name in names]]
        centred = (seen - seen.mean(0)).double()
        gram = centred.T @ centred + 0.1 * centred.square().sum() / len(photos) * torch.eye(
            seen.shape[1]
        )
        weight = torch.linalg.solve(gram, centred.T @ wanted.double()).T
        network.head.weight.copy_(weight)
        network.head.bias.copy_(wanted.mean(0) - weight @ seen.mean(0).double())
    return network


def export(backbone: Backbone, photos: list[Path], size: int, folder: Path, *, l2=False):
    geometry = Geometry(size=size)
    network = fitted(backbone, photos, geometry, l2=l2)
    fp32 = from_network(network, size)
    groups = groups_of(fp32)
    seen = collect(fp32, groups, photos, geometry, kernels_of(fp32))
    int8 = quantise(fp32, groups, seen)
    contract = Contract(
        "kind", 1, tuple((f"{i}",) for i in range(network.head.out_features)), geometry
    )
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", "int8")}
    for name, model in (("fp32", fp32), ("int8", int8)):
        paths[name].write_bytes(stamp(model, contract))
    return Exported(network, contract, fp32, int8, seen, paths)
