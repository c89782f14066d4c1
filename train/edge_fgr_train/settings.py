"""The sections of a recipe: frozen dataclasses that refuse values out of range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr.errors import ContractError

__all__ = ["Data", "Model", "Parts", "Teacher", "check_rules"]


@dataclass(frozen=True, slots=True)
class Data:
    """Which images serve for what.

    Attributes:
        fit: subfolders of the data folder that are trained on. Empty: ``train`` where there is
            one (and ``val`` is evaluated where there is one), else the folder itself.
        evaluate: subfolder measured after every epoch; empty: none.
        calibration: list of files (beside the recipe, or shipped with this package) that are
            kept out of training; the exporter chooses and checks on them. Empty: none.
        shots: so many images of each class are fitted, no others; 0: all.
        draw: which ones: the seed that ``edge_fgr_train.shots`` draws by.
    """

    fit: tuple[str, ...] = ()
    evaluate: str = ""
    calibration: str = ""
    shots: int = 0
    draw: int = 0

    def __post_init__(self) -> None:
        check_rules(
            "data",
            {
                "shots must be at least 1, or 0 for all images": self.shots >= 0,
                "draw must be at least 0": self.draw >= 0,
            },
        )


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        dropout: 0 to 1, before the head.
        drop_path: 0 to 1, share of residual branches that are skipped in training.
        frozen: the stem and so many stages keep their ImageNet weights and statistics. Early
            stages see edges and colours, which do not depend on the task, and cost most time.
        frozen_norms: all BatchNorms of the backbone normalise by the statistics that they started
            with: for steps of few pictures. Their scales and offsets are learnt.
        pool: what becomes of the features' positions: their ``mean``; ``gem``, the generalised
            mean of power 3 (Radenović et al. 2019, section 3.2); ``bilinear``, ``rank`` products
            of two projections, averaged: low-rank second moments (Kim et al. 2017, section 2);
            ``levels``, generalised means of the last stages of an EfficientNet side by side
            (``edge_fgr_train.pooling``).
        head: ``linear``; ``cosine``, angles to one direction a class (Gidaris & Komodakis 2018,
            section 3.2); ``arcface``, the same, taught with a ``margin`` (Deng et al. 2019).
        refit: ``whitened`` gives the finished network the head of ``edge_fgr_train.refit``; not for
            classes that are many things, such as good parts.
        l2: a linear head sees the embedding scaled to length 1.
        scale: what cosines are multiplied with.
        margin: of ``arcface``, in radians.
        rank: length of the embedding with ``bilinear``.
        pretrained: start from ImageNet weights; false starts from chance.
        mirrors: a finished network judges a picture together with mirrored copies: 1, the picture
            alone; 2, with the one turned left to right; 4, with those turned top to bottom as well
            (``edge_fgr_train.mirrors``). It takes as many times as long.
        tiles: along each side, that the picture is cut into; the worst one decides
            (``edge_fgr_train.tiles``). ``geometry.size`` is the side of the whole picture.
        good: the class that means "nothing found", from which tiles are told to be worse; empty:
            the tile that is most certain decides.
    """

    backbone: str = "efficientnet_lite0"
    dropout: float = 0.2
    drop_path: float = 0.0
    frozen: int = 0
    frozen_norms: bool = False
    pool: Literal["mean", "gem", "bilinear", "levels"] = "mean"
    head: Literal["linear", "cosine", "arcface"] = "linear"
    refit: Literal["none", "whitened"] = "none"
    l2: bool = False
    scale: float = 16.0
    margin: float = 0.2
    rank: int = 512
    pretrained: bool = True
    mirrors: int = 1
    tiles: int = 1
    good: str = ""

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
                "mirrors must be 1, 2 or 4": self.mirrors in (1, 2, 4),
                "mirrors have no form over tiles; set one of them to 1": self.mirrors == 1
                or self.tiles == 1,
                "tiles must be from 1 to 8": 1 <= self.tiles <= 8,
                "good is for tiles; set model.tiles": self.tiles > 1 or not self.good,
                "head arcface has no form over tiles; choose cosine": self.tiles == 1
                or self.head != "arcface",
                "refit has no form over tiles; choose none": self.tiles == 1
                or self.refit == "none",
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


def check_rules(section: str, rules: dict[str, bool]) -> None:
    """Raise ContractError with the first rule of a section that does not hold."""
    for rule, holds in rules.items():
        if not holds:
            raise ContractError(f"recipe: {section}.{rule}")
