"""The sections of a recipe: frozen dataclasses that refuse values out of range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr.errors import ContractError

__all__ = ["Augment", "Data", "Model", "Optimise", "Parts", "Teacher", "check_rules"]


@dataclass(frozen=True, slots=True)
class Data:
    """Which images serve for what.

    Attributes:
        fit: subfolders of the data folder that are trained on. Empty: ``train`` where there is
            one (and ``val`` is evaluated where there is one), else the folder itself.
        evaluate: subfolder measured after every epoch; empty: none.
        calibration: list of files (beside the recipe, or shipped with this package) that are
            kept out of training; the exporter chooses and checks on them. Empty: none.
    """

    fit: tuple[str, ...] = ()
    evaluate: str = ""
    calibration: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        dropout: 0 to 1, before the head.
        drop_path: 0 to 1, share of residual branches that are skipped in training.
        frozen: the stem and so many stages keep their ImageNet weights and statistics. Early
            stages see edges and colours, which do not depend on the task, and cost most time.
        pool: what becomes of the features' positions: their ``mean``; ``gem``, the generalised
            mean of power 3 (Radenović et al. 2019, section 3.2); ``bilinear``, ``rank`` products
            of two projections, averaged: low-rank second moments (Kim et al. 2017, section 2).
        head: ``linear``; ``cosine``, angles to one direction a class (Gidaris & Komodakis 2018,
            section 3.2); ``arcface``, the same, taught with a ``margin`` (Deng et al. 2019).
        refit: ``whitened`` gives the finished network the head of ``edge_fgr_train.refit``; not for
            classes that are many things, such as good parts.
        l2: a linear head sees the embedding scaled to length 1.
        scale: what cosines are multiplied with.
        margin: of ``arcface``, in radians.
        rank: length of the embedding with ``bilinear``.
        pretrained: start from ImageNet weights; false starts from chance.
    """

    backbone: str = "efficientnet_lite0"
    dropout: float = 0.2
    drop_path: float = 0.0
    frozen: int = 0
    pool: Literal["mean", "gem", "bilinear"] = "mean"
    head: Literal["linear", "cosine", "arcface"] = "linear"
    refit: Literal["none", "whitened"] = "none"
    l2: bool = False
    scale: float = 16.0
    margin: float = 0.2
    rank: int = 512
    pretrained: bool = True

    def __post_init__(self) -> None:
        check_rules(
            "model",
            {
                "dropout must be in 0 to 1": 0 <= self.dropout < 1,
                "drop_path must be in 0 to 1": 0 <= self.drop_path < 1,
                "frozen must be from 0 to 7": 0 <= self.frozen <= 7,
                "scale must be above 0": self.scale > 0,
                "margin must be in 0 to 1.5": 0 <= self.margin <= 1.5,
                "rank must be at least 8": self.rank >= 8,
            },
        )


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
                for name in ("flip", "flip_vertical", "turn", "erase", "mixed")
            },
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """Shuffled parts of pictures, in training alone: the network must look at details.

    Attributes:
        method: ``jigsaw`` shuffles the tiles of some pictures; ``dcl`` learns beside each picture
            one whose tiles moved to neighbouring places, tells which is which and where tiles
            came from (Chen et al. 2019, Destruction and Construction Learning); ``pmg`` teaches
            earlier stages on finer jigsaws of the same pictures (Du et al. 2020, Progressive
            Multi-Granularity; here one of its granularities a batch, and one step of the
            optimiser). The last two cost twice the time.
        grid: tiles along a side, for ``jigsaw`` and ``dcl``.
        share: of the batches whose pictures are shuffled, for ``jigsaw``.
    """

    method: Literal["none", "jigsaw", "dcl", "pmg"] = "none"
    grid: int = 4
    share: float = 0.3

    def __post_init__(self) -> None:
        check_rules(
            "parts",
            {
                "grid must be from 2 to 16": 2 <= self.grid <= 16,
                "share must be in 0 to 1": 0 <= self.share <= 1,
            },
        )


@dataclass(frozen=True, slots=True)
class Teacher:
    """Finished runs to learn from beside the labels (Hinton et al. 2015, section 2).

    They see the very pictures that the network sees, mixed as they are (Beyer et al. 2022,
    "Knowledge distillation: A good teacher is patient and consistent", section 3.1).

    Attributes:
        runs: folders of runs with the same classes; of several the mean of their probabilities.
        weight: 0 to 1, of what they say; the labels have the rest.
        temperature: that both sides' logits are divided by.
    """

    runs: tuple[str, ...] = ()
    weight: float = 0.7
    temperature: float = 2.0

    def __post_init__(self) -> None:
        check_rules(
            "teacher",
            {
                "weight must be in 0 to 1": 0 <= self.weight <= 1,
                "temperature must be above 0": self.temperature > 0,
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


def check_rules(section: str, rules: dict[str, bool]) -> None:
    """Raise ContractError with the first rule of a section that does not hold."""
    for rule, holds in rules.items():
        if not holds:
            raise ContractError(f"recipe: {section}.{rule}")
