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
from edge_fgr_train.settings import Data, Model, Parts, Teacher, check_rules
from edge_fgr_train.settings_balance import Balance, check_balance
from edge_fgr_train.settings_steps import Augment, Optimise

__all__ = [
    "Augment",
    "Balance",
    "Chain",
    "Data",
    "Model",
    "Optimise",
    "Parts",
    "Recipe",
    "Teacher",
    "change_recipe",
    "load_recipe",
]


@dataclass(frozen=True, slots=True)
class Chain:
    """A linear classifier on embeddings of a backbone that is not trained.

    Attributes:
        head: linear support vectors with squared hinge loss, one against the rest; multinomial
            logistic regression; or one of ``edge_fgr_train.prototypes``, which have no strength C:
            the nearest class mean by angle (``cosine``), by Euclidean distance (``prototype``), or
            by angle where classes are round (``whitened``). They learn from a single image.
        select: what is kept of the embedding: none, pca:K, mic:K or lda:K.
        scale: what is kept is brought to variance 1: ``each`` number alone, or ``all`` by one, or
            all after what varies ``within`` classes was made alike in all directions.
            ``auto`` is ``all`` for discriminants, which are in units of the spread within classes
            already, and for ``prototype`` and ``whitened``, which measure distances; else ``each``,
            which serves small differences (defects); plain features of photographs often do
            better with ``all``.
        c: candidates for the inverse strength of regularisation; the best in cross-validation wins.
        views: the classifier also learns from so many changed copies of each image to fit, by
            ``augment.crop``, ``jitter`` and their like, at the device's size. Judged are images.
        folds: of the cross-validation.
        balanced: weigh classes inversely to their number of images.
    """

    head: Literal["svm", "logreg", "cosine", "prototype", "whitened"] = "svm"
    select: str = "none"
    scale: Literal["auto", "each", "all", "within"] = "auto"
    c: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    views: int = 0
    folds: int = 5
    balanced: bool = True

    def __post_init__(self) -> None:
        check_rules(
            "chain",
            {
                "c must hold numbers above 0": bool(self.c) and min(self.c) > 0,
                "views must be from 0 to 64": 0 <= self.views <= 64,
                "folds must be at least 2": self.folds >= 2,
            },
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole recipe. ``licence`` and ``notes`` go into the model's provenance.

    With ``chain`` the backbone is not trained, and ``optimise``, ``parts`` and ``teacher`` have no
    meaning, nor has ``augment`` without ``chain.views``; ``balance`` is refused.
    """

    name: str
    geometry: Geometry
    version: int = 1
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    optimise: Optimise = Optimise()
    parts: Parts = Parts()
    balance: Balance = Balance()
    teacher: Teacher = Teacher()
    chain: Chain | None = None
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        check_balance(self.balance, self.model, chain=self.chain is not None)


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
