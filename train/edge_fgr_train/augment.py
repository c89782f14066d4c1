"""Random changes of training pictures; every draw depends on (seed, epoch, image) alone.

So a run that was killed and resumed sees the same pictures as an undisturbed one, with any number
of loader processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from edge_fgr.contract import Geometry
from edge_fgr.image import read
from edge_fgr_train.dataset import Sample
from edge_fgr_train.recipe import Augment

__all__ = ["PictureCache", "TrainingSet", "mixer", "seed_of"]

_CACHE_BYTES = 4 << 30


def seed_of(*parts: int) -> int:
    """Mix integers into one 63-bit seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


class PictureCache:
    """Decoded pictures, shrunk to what the largest crop needs, within a memory bound."""

    def __init__(self, geometry: Geometry, limit: int = _CACHE_BYTES) -> None:
        self._geometry = geometry
        self._left = limit
        self._pictures: OrderedDict[str, npt.NDArray[np.uint8]] = OrderedDict()

    def get(self, sample: Sample) -> Image.Image:
        """Return the picture as the device would decode it, scaled to the cache's short side."""
        if (known := self._pictures.get(sample.name)) is not None:
            return Image.fromarray(known)
        picture = read(sample.path, self._geometry)
        short = self._geometry.short_side
        if min(picture.size) > short:
            factor = short / min(picture.size)
            size = (round(picture.width * factor), round(picture.height * factor))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._pictures[sample.name] = pixels
        return picture


class TrainingSet(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Augmented pictures: ``(size, size, 3)`` uint8 and the class index."""

    def __init__(
        self, samples: Sequence[Sample], targets: Sequence[int], rules: Augment, seed: int
    ) -> None:
        self._samples, self._targets, self._seed = samples, targets, seed
        crop: v2.Transform
        if rules.crop == "shift":
            short = rules.size
            crop = v2.Compose(
                [
                    v2.CenterCrop(rules.size),
                    v2.RandomCrop(rules.size, padding=rules.padding, fill=127),
                ]
            )
        else:
            # Crops of up to 4/9 of the area lose nothing; smaller ones are enlarged a little.
            short = round(rules.size * 1.5)
            crop = v2.RandomResizedCrop(
                rules.size,
                scale=(rules.crop_min, 1.0),
                interpolation=v2.InterpolationMode.BICUBIC,
            )
        self._cache = PictureCache(Geometry(size=rules.size, short_side=short, scaled_decode=1.0))
        self._change = v2.Compose(
            [
                crop,
                v2.RandomHorizontalFlip(rules.flip),
                v2.ColorJitter(rules.jitter, rules.jitter, rules.jitter, rules.jitter / 10),
                v2.PILToTensor(),
                v2.RandomErasing(rules.erase, scale=(0.02, 0.2), value=127),
            ]
        )
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Draw the picture of this epoch."""
        torch.manual_seed(seed_of(self._seed, self.epoch, index))
        pixels = self._change(self._cache.get(self._samples[index]))  # (3, H, W)
        return pixels.permute(1, 2, 0).contiguous(), self._targets[index]


def mixer(rules: Augment, classes: int) -> v2.Transform | None:
    """Return the batch transform of the recipe: mixup or CutMix now and then, or None."""
    options: list[v2.Transform] = []
    if rules.mixup:
        options.append(v2.MixUp(alpha=rules.mixup, num_classes=classes))
    if rules.cutmix:
        options.append(v2.CutMix(alpha=rules.cutmix, num_classes=classes))
    return v2.RandomApply([v2.RandomChoice(options)], rules.mixed) if options else None
