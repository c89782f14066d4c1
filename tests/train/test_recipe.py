"""Recipes are read strictly; shipped ones are valid."""

from __future__ import annotations

from importlib.resources import files

import pytest

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr_train.recipe import load_recipe

SHIPPED = [
    path.name
    for path in (files("edge_fgr_train") / "recipes").iterdir()
    if path.name.endswith(".toml")
]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_valid(name):
    assert load_recipe(name.removesuffix(".toml")).name


def test_set_replaces_values():
    recipe = load_recipe("default", ["optimise.epochs=3", 'data.fit=["a"]', "name=fruit"])
    assert (recipe.optimise.epochs, recipe.data.fit, recipe.name) == (3, ("a",), "fruit")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optimise.epoch=3", "unknown key 'epoch'"),
        ("optimise.epochs=0", "at least 1"),
        ("optimise.epochs=1.5", "an integer is needed"),
        ("optimise.lr=-1", "lr"),
        ("optimise.method=adagrad", "none of"),
        ("augment.crop_min=0", "crop_min"),
        ("model.dropout=1", "dropout"),
        ("geometry.size=2", "size"),
        ("epochs", "section.key=value"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, says):
    with pytest.raises(UsageError, match=says):
        load_recipe("default", [change])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputMissingError, match="default, few-shots, flowers17, grocery81"):
        load_recipe("no-such-recipe")
    path = tmp_path / "broken.toml"
    path.write_text("name = [")
    with pytest.raises(UsageError, match=r"broken\.toml"):
        load_recipe(str(path))
