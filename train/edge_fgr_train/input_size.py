"""The side of the input, chosen from the pictures to fit; and whether tiles fit them.

Pictures are asked for their width and height alone: nothing is decoded.

The rule of ``auto``: what a picture *holds* is the input at which the device would neither shrink
nor enlarge it. The median of that, to the nearest multiple of 32 (what backbones divide a side by),
but not below 128 nor above 384 for each tile. Nothing is gained above what pictures hold, time
grows with the square, and backbones learnt at about 224. Training pictures have 0.8 of the side:
crops make things look larger (Touvron et al. 2019, FixRes, section 3).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt
from statistics import median

from PIL import Image

from edge_fgr.contract import WHOLE, Geometry
from edge_fgr.errors import ContractError, InputMissingError, UsageError
from edge_fgr.progress import say
from edge_fgr_train.dataset import Sample
from edge_fgr_train.recipe import Recipe

__all__ = ["check_tiles", "fitted_to", "held_by"]

_STEP = 32
_LEAST, _MOST = 128, 384
_TRAINED = 0.8
_ASKED = 512
"""Pictures that are asked for their size, evenly spaced."""

_LARGE = 1.5
"""From so many times the input on, tiles are proposed."""

_MOST_TILES = 8
_GROWING = 16
"""What sides of growing pictures are multiples of (``augment``)."""


def fitted_to(
    recipe: Recipe,
    size: str,
    samples: Sequence[Sample],
    changes: Sequence[str] = (),
    tell: Callable[[str], None] = say,
) -> Recipe:
    """Return the recipe with the size of its input, and say what was chosen and why.

    Args:
        recipe: what is not said below stays.
        size: a number of pixels, or ``auto``; empty: the recipe's own, which is only checked.
        samples: the images to fit.
        changes: ``section.key=value`` items of the command line, which win.
        tell: takes what was chosen, in words.

    Raises:
        UsageError: it is no size, does not fit the tiles, or tiles are larger than the pictures.
        InputMissingError: no picture says how large it is.
    """
    tiles = recipe.model.tiles
    if not size and tiles == 1:
        return recipe
    held = held_by(samples, recipe.geometry)
    if size:
        recipe = _sized(recipe, size, held, {change.partition("=")[0] for change in changes}, tell)
    check_tiles(recipe)
    side = recipe.geometry.size // tiles
    if tiles > 1 and side > held:
        raise UsageError(
            f"recipe: a tile of {side} pixels is larger than the pictures, which hold about "
            f"{held:.0f}: set model.tiles=1, or a smaller geometry.size"
        )
    return recipe


def held_by(samples: Sequence[Sample], geometry: Geometry) -> float:
    """Return the side in pixels of the input that the pictures fill, by their median.

    Of a picture that is stretched it is the root of width times height, else the shorter side, less
    what is cut off.

    Raises:
        InputMissingError: no picture says how large it is.
    """
    left, top, right, bottom = geometry.roi or WHOLE
    found = []
    for sample in samples[:: -(-len(samples) // _ASKED) or 1]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of very large pictures; training says it
                with Image.open(sample.path) as picture:
                    width, height = picture.size
        except OSError:  # training names it
            continue
        w, h = width * (right - left), height * (bottom - top)
        stretched = geometry.resize == "stretch"
        found.append(sqrt(w * h) if stretched else min(w, h) * geometry.size / geometry.short_side)
    if not found:
        raise InputMissingError(
            f"{samples[0].path}: neither it nor another picture says how large it is; "
            "look with edge-fgr data check"
        )
    return float(median(found))


def check_tiles(recipe: Recipe) -> None:
    """Raise UsageError where a recipe's tiles do not fit the rest of it."""
    tiles = recipe.model.tiles
    for name, value in (("geometry", recipe.geometry.size), ("augment", recipe.augment.size)):
        if value % tiles:
            near = f"{value - value % tiles} or {value - value % tiles + tiles}"
            raise UsageError(
                f"recipe: {name}.size {value} cannot be cut into {tiles} tiles a side: {near} can"
            )
    if recipe.augment.start_size and _GROWING % tiles:
        raise UsageError(
            f"recipe: augment.start_size grows by {_GROWING} pixels, which {tiles} tiles a side do "
            "not divide: set it to 0"
        )
    if tiles > 1 and recipe.parts.method == "pmg":
        raise UsageError("recipe: parts.method pmg has no form over tiles; choose jigsaw or dcl")


def _sized(
    recipe: Recipe, size: str, held: float, said: set[str], tell: Callable[[str], None]
) -> Recipe:
    """Return the recipe with another input, but for what was said by ``--set``."""
    tiles, old = recipe.model.tiles, recipe.geometry
    unit, why = _STEP * tiles, "as told"
    if "geometry.size" in said:
        side, why = old.size, "as told by --set"
    elif size == "auto":
        side = min(max(round(held / unit) * unit, _LEAST * tiles), _MOST * tiles)
        each = " for each tile" if tiles > 1 else ""
        why = f"a multiple of {unit}, from {_LEAST} to {_MOST}{each}"
    elif size.isascii() and size.isdigit() and 32 <= int(size) <= 4096:
        side = int(size)
    else:
        raise UsageError(f"--size {size}: auto, or a number of pixels from 32 to 4096 is needed")
    trained = side if recipe.augment.crop == "shift" else round(_TRAINED * side / unit) * unit
    trained = recipe.augment.size if "augment.size" in said else max(unit, trained)
    short = side if old.resize == "stretch" else round(old.short_side * side / old.size)
    short = old.short_side if "geometry.short_side" in said else short
    start = min(recipe.augment.start_size, trained)
    try:
        geometry = replace(old, size=side, short_side=short)
        augment = replace(recipe.augment, size=trained, start_size=start)
    except ContractError as error:
        raise UsageError(f"--size {size}: {error}") from None
    tell(
        f"input {side} x {side} ({why}): the pictures to fit hold about {held:.0f} pixels a side; "
        f"trained at {trained}"
    )
    if side > held * 1.25:
        tell(
            f"nothing is gained above what the pictures hold: --size {_near(held, unit)} is as good"
        )
    elif tiles == 1 and held >= _LARGE * side:
        more = min(_MOST_TILES, max(2, round(held / side)))
        tell(
            f"the pictures hold {held / side:.1f} times as much: where a few pixels decide, tiles "
            f"find them: --size auto --set model.tiles={more} (docs/tiles.md), for {more * more} "
            "times the time"
        )
    return replace(recipe, geometry=geometry, augment=augment)


def _near(held: float, unit: int) -> int:
    return max(unit, round(held / unit) * unit)
