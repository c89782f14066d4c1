"""``--imbalance auto``: what the numbers of images say should be done about rare classes."""

from __future__ import annotations

from collections.abc import Sequence

from edge_fgr.errors import UsageError
from edge_fgr_train.recipe import Recipe, change_recipe
from edge_fgr_train.settings_balance import Balance

__all__ = ["EVEN", "FEW", "balanced_by", "choose"]

EVEN = 3.0
"""Below this ratio of the largest class to the smallest nothing is done."""

FEW = 5
"""A smallest class of fewer images is told of: no method makes up for pictures that are missing."""


def choose(counts: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """Choose by the images to fit of each class, at least one each.

    Returns:
        ``section.key=value`` items, and in words what was chosen and why.
    """
    large, small = max(counts), min(counts)
    ratio = large / small
    seen = f"largest class {large} images, smallest {small}, {ratio:.1f} to 1"
    if ratio < EVEN:
        return (), f"{seen}: nothing is done below {EVEN:g} to 1"
    changes = ("balance.adjust=loss", "balance.tau=1.0")
    words = f"{seen}: logit adjustment in the loss (balance.adjust = loss, tau = 1)"
    if small < FEW:
        rare = sum(count < FEW for count in counts)
        words += f"; {rare} of {len(counts)} classes have fewer than {FEW} images: take more"
    return changes, words


def balanced_by(recipe: Recipe, counts: Sequence[int]) -> tuple[Recipe, str]:
    """Return a recipe with the choice put into its ``balance``, and the words of it.

    Raises:
        UsageError: the recipe says something about balance itself.
    """
    if recipe.balance != Balance():
        raise UsageError(
            "--imbalance auto chooses what the recipe says already in its [balance]; "
            "leave one of them out"
        )
    changes, words = choose(counts)
    return change_recipe(recipe, changes), words
