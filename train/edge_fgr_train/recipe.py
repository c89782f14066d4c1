"""A training recipe: frozen dataclasses, read strictly from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from edge_fgr.contract import Geometry, build
from edge_fgr.errors import ContractError, InputMissingError, UsageError
from edge_fgr_train.backbones import native_geometry

__all__ = [
    "Augment",
    "Chain",
    "Data",
    "Model",
    "Optimise",
    "Recipe",
    "change_recipe",
    "load_recipe",
]


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
        dropout: 0 to 1, before the linear head.
        drop_path: 0 to 1, share of residual branches that are skipped in training.
        frozen: the stem and so many stages keep their ImageNet weights and statistics. Early
            stages see edges and colours, which do not depend on the task, and cost most time.
        l2: the head sees the embedding scaled to length 1.
        pretrained: start from ImageNet weights; false starts from chance.
    """

    backbone: str = "efficientnet_lite0"
    dropout: float = 0.2
    drop_path: float = 0.0
    frozen: int = 0
    l2: bool = False
    pretrained: bool = True


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes of a training picture.

    Attributes:
        crop: ``area`` cuts a random share of the picture at a random place and scales it to
            ``size``; ``shift`` brings the picture to ``size`` as evaluation does, pads it by
            ``padding`` pixels of gray and cuts ``size`` out at a random place.
        padding: for ``shift``, in pixels.
        size: side of the training input, in pixels. Training below the test resolution corrects
            for crops that make things look larger (Touvron et al. 2019, FixRes, section 3).
        crop_min: smallest share of the picture's area that a crop keeps.
        flip: probability of a mirror image.
        jitter: strength of brightness and contrast changes; saturation and hue follow at
            1 and 1/10 of it. Colour tells apples apart, so it stays small.
        erase: probability that a rectangle is erased (Zhong et al. 2020).
        mixup: alpha of mixup (Zhang et al. 2018); 0 turns it off.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 turns it off. With both, each batch draws one.
        mixed: share of the batches that are mixed at all.
    """

    crop: Literal["area", "shift"] = "area"
    padding: int = 4
    size: int = 224
    crop_min: float = 0.3
    flip: float = 0.5
    jitter: float = 0.2
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixed: float = 1.0


@dataclass(frozen=True, slots=True)
class Optimise:
    """Adam, AdamW or SGD, with linear warm-up.

    Attributes:
        schedule: after the warm-up the rate falls to zero as a cosine, or stays.
        lr: peak rate of the backbone; the new head learns at ``head_factor`` times it.
        weight_decay: on weights, not on biases and norms.
        ema: decay a step of the weight average that is kept as the result; 0 turns it off.
        members: train so many times from the same start, each with draws of its own, and average
            the weights (uniform soup: Wortsman et al. 2022, section 3); costs as many times more.
    """

    epochs: int = 12
    batch: int = 32
    method: Literal["adam", "adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    lr: float = 5e-4
    head_factor: float = 5.0
    weight_decay: float = 0.02
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    ema: float = 0.998
    members: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Chain:
    """A linear classifier on embeddings of a backbone that is not trained.

    Attributes:
        head: linear support vectors with squared hinge loss, one against the rest; multinomial
            logistic regression; or the nearest class mean by angle, which has no strength C and
            learns from a single image.
        select: what is kept of the embedding: none, pca:K, mic:K or lda:K.
        scale: what is kept is brought to variance 1: ``each`` number alone, or ``all`` by one.
            ``auto`` is ``all`` for discriminants, which are in units of the spread within classes
            already, else ``each``, which serves small differences (defects); plain features of
            photographs often do better with ``all``.
        c: candidates for the inverse strength of regularisation; the best in cross-validation wins.
        folds: of the cross-validation.
        balanced: weigh classes inversely to their number of images.
    """

    head: Literal["svm", "logreg", "cosine"] = "svm"
    select: str = "none"
    scale: Literal["auto", "each", "all"] = "auto"
    c: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    folds: int = 5
    balanced: bool = True


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole recipe. ``licence`` and ``notes`` go into the model's provenance.

    With ``chain`` the backbone is not trained, and ``augment`` and ``optimise`` have no meaning.
    """

    name: str
    geometry: Geometry
    version: int = 1
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    optimise: Optimise = Optimise()
    chain: Chain | None = None
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        checks = {
            "optimise.epochs must be at least 1": self.optimise.epochs >= 1,
            "optimise.members must be at least 1": self.optimise.members >= 1,
            "augment.mixed must be in 0 to 1": 0 <= self.augment.mixed <= 1,
            "augment.padding must be at least 0": self.augment.padding >= 0,
            "optimise.batch must be at least 2": self.optimise.batch >= 2,
            "optimise.lr must be above 0": self.optimise.lr > 0,
            "optimise.ema must be in 0 to 1": 0 <= self.optimise.ema < 1,
            "optimise.label_smoothing must be in 0 to 1": 0 <= self.optimise.label_smoothing < 1,
            "model.frozen must be from 0 to 7": 0 <= self.model.frozen <= 7,
            "model.dropout must be in 0 to 1": 0 <= self.model.dropout < 1,
            "augment.crop_min must be in 0 to 1": 0 < self.augment.crop_min <= 1,
            "augment.size must be at least 32": self.augment.size >= 32,
        }
        if self.chain is not None:
            checks |= {
                "chain.c must hold numbers above 0": bool(self.chain.c) and min(self.chain.c) > 0,
                "chain.folds must be at least 2": self.chain.folds >= 2,
            }
        for rule, holds in checks.items():
            if not holds:
                raise ContractError(f"recipe: {rule}")


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path, or by the name of one that ships with this package.

    Args:
        name: path of a ``.toml`` file, or a bare name such as ``grocery81``.
        changes: ``section.key=value`` items that replace what the file says; values are TOML.

    Without ``geometry`` the recipe has the backbone's own.

    Raises:
        InputMissingError: there is no such recipe.
        UsageError: it is not TOML, has unknown keys, or values out of range.
    """
    path, shipped = Path(name), Path(str(files("edge_fgr_train") / "recipes"))
    if not path.suffix and not path.exists():
        path = shipped / f"{name}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _apply(raw, change)
        if "geometry" not in raw:
            raw["geometry"] = asdict(native_geometry(_backbone_of(raw)))
        recipe: Recipe = build(Recipe, raw, "recipe")
    except OSError:
        known = ", ".join(sorted(recipe.stem for recipe in shipped.glob("*.toml")))
        raise InputMissingError(
            f"{name}: no such recipe; give a .toml file or one of: {known}"
        ) from None
    except (ContractError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
    return recipe


def change_recipe(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Return ``recipe`` with ``section.key=value`` items replaced.

    Raises:
        UsageError: unknown keys, or values out of range.
    """
    raw = asdict(recipe)
    try:
        for change in changes:
            _apply(raw, change)
        changed: Recipe = build(Recipe, raw, "recipe")
    except (ContractError, ValueError) as error:
        raise UsageError(f"{recipe.name}: {error}") from None
    return changed


def _backbone_of(raw: dict[str, Any]) -> str:
    model = raw.get("model", {})
    return str(model.get("backbone", Model().backbone)) if isinstance(model, dict) else ""


def _apply(raw: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise ValueError(f"--set {change}: section.key=value is needed")
    *sections, last = key.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
    try:
        raw[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raw[last] = text
