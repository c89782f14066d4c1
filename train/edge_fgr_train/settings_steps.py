"""The sections of a recipe that a training step reads: what becomes of pictures, and of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr_train.settings import check_rules

__all__ = ["Augment", "Optimise"]


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes of a training picture.

    Attributes:
        crop: ``area`` cuts a random share of the picture at a random place and scales it to
            ``size``; ``stretch`` does the same with shares of the picture's own proportions, for
            a geometry that stretches; ``shift`` brings the picture to ``size``, pads it by
            ``padding`` pixels of gray and cuts ``size`` out at a random place.
        padding: for ``shift``, in pixels.
        size: side of the training input, in pixels. Training below the test resolution corrects
            for crops that make things look larger (Touvron et al. 2019, FixRes, section 3).
        start_size: side at the beginning; it grows to ``size`` in the first two thirds of the
            epochs (progressive learning: Tan & Le 2021, section 4). 0: ``size`` from the start.
        crop_min: smallest share of the picture's area that a crop keeps.
        flip: probability of a mirror image.
        flip_vertical: probability of one top to bottom, for things that lie either way.
        turn: probability of a quarter turn or two, for things without an upper side.
        jitter: strength of brightness and contrast changes; saturation and hue follow at
            1 and 1/10 of it. Colour tells apples apart, so it stays small.
        policy: one more change of each picture: ``trivial`` draws it and its strength (Müller &
            Hutter 2021, TrivialAugment), ``rand`` draws two of strength 9 of 30 (Cubuk et al.
            2020, RandAugment).
        weather: what bad light and a poor camera do to ``weathered`` of the pictures: ``augmix``
            mixes a picture with chains of mild changes of it (Hendrycks et al. 2020, without their
            loss); ``camera`` errs in exposure, white balance, focus and hold, adds a sensor's
            noise and JPEG's blocks; ``both``, one after the other.
        weathered: share of the pictures.
        erase: probability that a rectangle is erased (Zhong et al. 2020).
        mixup: alpha of mixup (Zhang et al. 2018); 0 turns it off.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 turns it off. With both, each batch draws one.
        mixed: share of the batches that are mixed at all.
    """

    crop: Literal["area", "stretch", "shift"] = "area"
    padding: int = 4
    size: int = 224
    start_size: int = 0
    crop_min: float = 0.3
    flip: float = 0.5
    flip_vertical: float = 0.0
    turn: float = 0.0
    jitter: float = 0.2
    policy: Literal["none", "trivial", "rand"] = "none"
    weather: Literal["none", "augmix", "camera", "both"] = "none"
    weathered: float = 0.5
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixed: float = 1.0

    def __post_init__(self) -> None:
        check_rules(
            "augment",
            {
                "size must be at least 32": self.size >= 32,
                "start_size must be 0, or from 32 to size": self.start_size == 0
                or 32 <= self.start_size <= self.size,
                "crop_min must be in 0 to 1": 0 < self.crop_min <= 1,
                "padding must be at least 0": self.padding >= 0,
                "jitter must be in 0 to 1": 0 <= self.jitter < 1,
                "mixup must be at least 0": self.mixup >= 0,
                "cutmix must be at least 0": self.cutmix >= 0,
            }
            | {
                f"{name} must be in 0 to 1": 0 <= getattr(self, name) <= 1
                for name in ("flip", "flip_vertical", "turn", "weathered", "erase", "mixed")
            },
        )


@dataclass(frozen=True, slots=True)
class Optimise:
    """Adam, AdamW or SGD, with linear warm-up.

    Attributes:
        batch: pictures a step.
        accumulate: a step is computed in so many pieces, to fit a small memory.
        schedule: after the warm-up the rate falls to zero as a cosine, or stays.
        lr: peak rate of the backbone; the new head learns at ``head_factor`` times it.
        layer_decay: each stage towards the pixels learns at so many times the rate of the next.
        weight_decay: on weights, not on biases and norms.
        ema: decay a step of the weight average that is kept as the result; 0 turns it off.
        patience: stop when so many epochs brought no better top-1 on the evaluated images, and
            keep the best; 0 trains to the end and keeps the last.
        fix_epochs: so many epochs more at the test resolution, as evaluation cuts, for the head
            and the last norm alone (Touvron et al. 2019, FixRes, section 5).
        members: train so many times from the same start, each with draws of its own, and average
            the weights (uniform soup: Wortsman et al. 2022, section 3); costs as many times more.
        precision: ``auto`` is bf16 where the processor has it.
        sync_norm: with several ranks, whether BatchNorm normalises by the pictures of all of them:
            ``auto`` does so on CUDA; PyTorch cannot on processors.
    """

    epochs: int = 12
    batch: int = 32
    accumulate: int = 1
    method: Literal["adam", "adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    lr: float = 5e-4
    head_factor: float = 5.0
    layer_decay: float = 1.0
    weight_decay: float = 0.02
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    ema: float = 0.998
    patience: int = 0
    fix_epochs: int = 0
    members: int = 1
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    sync_norm: Literal["auto", "on", "off"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_rules(
            "optimise",
            {
                "epochs must be at least 1": self.epochs >= 1,
                "members must be at least 1": self.members >= 1,
                "batch must be at least 2": self.batch >= 2,
                "accumulate must divide batch into pieces of at least 2": self.accumulate >= 1
                and self.batch % self.accumulate == 0
                and self.batch // self.accumulate >= 2,
                "lr must be above 0": self.lr > 0,
                "head_factor must be above 0": self.head_factor > 0,
                "layer_decay must be above 0, at most 1": 0 < self.layer_decay <= 1,
                "weight_decay must be at least 0": self.weight_decay >= 0,
                "warmup_epochs must be at least 0": self.warmup_epochs >= 0,
                "label_smoothing must be in 0 to 1": 0 <= self.label_smoothing < 1,
                "ema must be in 0 to 1": 0 <= self.ema < 1,
                "patience must be at least 0": self.patience >= 0,
                "patience is for one member": not self.patience or self.members == 1,
                "fix_epochs must be at least 0": self.fix_epochs >= 0,
                "fix_epochs are for one member": not self.fix_epochs or self.members == 1,
                "fix_epochs follow the last epoch, so they need patience = 0": not self.fix_epochs
                or not self.patience,
            },
        )
