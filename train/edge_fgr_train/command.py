"""``edge-fgr train``: reached by name from the command line of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch

from edge_fgr.errors import DeviceError, InputMissingError, UsageError
from edge_fgr.progress import say
from edge_fgr_train.dataset import labels_of, read_list, scan
from edge_fgr_train.loop import Split, train
from edge_fgr_train.recipe import Recipe, load_recipe

__all__ = ["run", "split_of"]


def run(data: Path, output: Path, recipe_name: str, changes: Sequence[str], device: str) -> None:
    """Train ``data`` by a recipe into the folder ``output``; resume what was interrupted.

    Raises:
        EdgeFgrError: see the error tree; nothing half-written is left under a final name.
    """
    recipe = load_recipe(recipe_name, changes)
    split = split_of(data, recipe, recipe_name)
    labels = labels_of(split.fit)
    say(
        f"{recipe.name}: {len(split.fit)} images of {len(labels)} classes to fit, "
        f"{len(split.evaluate)} to evaluate, {len(split.calibration)} kept for calibration"
    )
    train(split, recipe, data, output, _device(device))
    say(f"{output}: done; next: edge-fgr export {output} -o {recipe.name}.onnx")


def split_of(data: Path, recipe: Recipe, recipe_name: str = "") -> Split:
    """List the images of each part, as the recipe says.

    Raises:
        InputMissingError: a folder, the list, or a file of the list is missing.
        UsageError: fewer than two classes, or a class whose images are all held out.
    """
    fit_folders, evaluated = _folders(data, recipe)
    everything = scan(data, fit_folders)
    held = _list(recipe.data.calibration, recipe_name) if recipe.data.calibration else frozenset()
    evaluate = scan(data, (evaluated,)) if evaluated else []
    known = {s.name: s for s in [*everything, *evaluate]}
    if absent := sorted(held - set(known)):
        raise InputMissingError(f"{data}: lacks {absent[0]}, which the calibration list names")
    fit = [s for s in everything if s.name not in held]
    if lost := set(labels_of(everything)) - set(labels_of(fit)):
        raise UsageError(f"{data}: all images of {'/'.join(min(lost))} are held out")
    if len(labels_of(fit)) < 2:
        raise UsageError(f"{data}: at least two classes are needed")
    if strange := set(labels_of(evaluate)) - set(labels_of(fit)):
        raise UsageError(f"{data}: {'/'.join(min(strange))} is evaluated but never trained")
    folders = [folder for folder in (*fit_folders, evaluated) if folder]
    return Split(folders, fit, evaluate, [known[name] for name in sorted(held)])


def _folders(data: Path, recipe: Recipe) -> tuple[tuple[str, ...], str]:
    """Return the subfolders to fit and the one to evaluate."""
    if recipe.data.fit or not (data / "train").is_dir():
        return recipe.data.fit, recipe.data.evaluate
    found = "val" if (data / "val").is_dir() else ""
    return ("train",), recipe.data.evaluate or found


def _list(name: str, recipe_name: str) -> frozenset[str]:
    beside = Path(recipe_name).parent / name
    shipped = Path(str(files("edge_fgr_train") / "recipes" / name))
    return read_list(beside if recipe_name and beside.exists() else shipped)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("cuda: PyTorch finds no usable GPU here; choose --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
