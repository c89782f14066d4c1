"""PyTorch, eager: timm's network in float32 with random weights, torchvision's transforms.

Weights say nothing about time, so none are needed; its labels mean nothing. One image has one
thread. A folder goes in small batches, decoded by a DataLoader of as many processes as cores. Of
what was tried the fastest is kept: channels last and batches of 4 (of 32: half the speed).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from harness import Spec, run
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

__all__ = ["Eager"]

_BATCH = 4


class Eager:
    """The network as timm gives it."""

    threads = "1"

    def __init__(self, spec: Spec) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        network = timm.create_model(spec.network, pretrained=False, num_classes=len(spec.labels))
        network = network.eval().to(memory_format=torch.channels_last)
        self._one = self.made(network)
        self._many = self.made(network)
        self._cores = spec.cores
        kernel = transforms.InterpolationMode(spec.kernel)
        self._transform = transforms.Compose(
            [
                transforms.Resize(spec.short_side, kernel),
                transforms.CenterCrop(spec.size),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def made(self, network: torch.nn.Module) -> Any:
        """Return what is called with a batch ``(N, 3, size, size)``."""
        return network

    @torch.inference_mode()
    def classify(self, path: str) -> int | None:
        """Compute a label, of which nothing is told."""
        int(self._one(_last(self._pixels(path)[None]))[0].argmax())
        return None

    @torch.inference_mode()
    def folder(self, paths: Sequence[str]) -> list[int | None]:
        """Compute labels, of which nothing is told."""
        torch.set_num_threads(self._cores)
        photos = _Photos(paths, self._pixels)
        for batch in DataLoader(photos, batch_size=_BATCH, num_workers=self._cores):
            self._many(_last(batch)).argmax(dim=1).tolist()
        torch.set_num_threads(1)
        return [None] * len(paths)

    def _pixels(self, path: str) -> torch.Tensor:
        with Image.open(path) as photo:
            pixels: torch.Tensor = self._transform(photo.convert("RGB"))
        return pixels


def _last(batch: torch.Tensor) -> torch.Tensor:
    return batch.to(memory_format=torch.channels_last)


class _Photos(Dataset[torch.Tensor]):
    def __init__(self, paths: Sequence[str], pixels: Any) -> None:
        self._paths, self._pixels = paths, pixels

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        tensor: torch.Tensor = self._pixels(self._paths[place])
        return tensor


if __name__ == "__main__":
    run(Eager)
