"""What the variants of an ablation brought, as Markdown. Nothing is hidden that did not help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from edge_fgr_bench.ablation import BASE, DataSet, Plan, Result, Variant, Work

__all__ = ["to_markdown"]

_NONE = "not known"


@dataclass(frozen=True, slots=True)
class _Row:
    """A variant's results by seed, beside those of the base variant."""

    variant: Variant
    found: Mapping[int, Result]
    base: Mapping[int, Result]

    @property
    def order(self) -> tuple[bool, float]:
        """The base first, then by what the likelihood gained; what cannot be compared, last."""
        lost = [a.nll - b.nll for a, b in self.pairs()]
        return self.variant.name != BASE, fmean(lost) if lost else math.inf

    def pairs(self) -> list[tuple[Result, Result]]:
        """Return the results of the seeds that the base variant has, too, each with that one."""
        return [(one, self.base[seed]) for seed, one in self.found.items() if seed in self.base]

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        runs, pairs = list(self.found.values()), self.pairs()
        better = _mean([100 * (a.top1 - b.top1) for a, b in pairs], "+.2f")
        surer = _mean([a.nll - b.nll for a, b in pairs], "+.4f")
        is_base = self.variant.name == BASE
        time = [a.seconds / b.seconds for a, b in pairs]
        return [
            self.variant.name,
            self.variant.what,
            f"{_mean([100 * one.top1 for one in runs], '.2f')} ({len(runs)})",
            "" if is_base else better,
            _mean([one.nll for one in runs], ".4f"),
            "" if is_base else surer,
            f"{fmean(time):.2f}" if time else _NONE,
        ]


def to_markdown(
    plan: Plan,
    out: Path,
    data: Sequence[DataSet],
    variants: Sequence[Variant],
    seeds: Sequence[int],
) -> str:
    """Return a table for each data set.

    Args:
        plan: whose runs.
        out: folder of the results.
        data: the data sets to show.
        variants: the variants to show; what was not run is listed below the table.
        seeds: the seeds to show.

    Raises:
        ModelError: a result is damaged.
    """
    parts = _head(plan)
    parts += [part for one in data for part in _section(plan, out, one, variants, seeds)]
    return "\n".join(parts).strip() + "\n"


def _head(plan: Plan) -> list[str]:
    return [
        "# What each ingredient of a recipe brings",
        "",
        "Written by `python -m edge_fgr_bench.ablate SHARED OUT --table`. Each variant changes "
        f"one thing of `base`, which is the recipe `{plan.base.recipe}` with "
        f"{', '.join(map(_code, plan.base.set))}. It is a screening: short trainings at a small "
        "size. A difference of few images, or of less than standard deviations, may be chance.",
        "",
    ]


def _code(change: str) -> str:
    return f"`{change}`"


def _section(
    plan: Plan, out: Path, data: DataSet, variants: Sequence[Variant], seeds: Sequence[int]
) -> list[str]:
    def results(variant: Variant) -> dict[int, Result]:
        runs = {seed: Work(plan, data, variant, seed).result(out) for seed in seeds}
        return {seed: found for seed, found in runs.items() if found is not None}

    (base,) = (results(variant) for variant in plan.variant if variant.name == BASE)
    rows = [_Row(variant, results(variant), base) for variant in variants]
    shown = sorted((row for row in rows if row.found), key=lambda row: row.order)
    lines = [f"## {data.name}", ""]
    if shown:
        first = next(iter(shown[0].found.values()))
        lines += [
            f"{first.fitted} images fitted, {first.judged} judged: one of these is "
            f"{100 / first.judged:.2f} points. Mean ± standard deviation over the seeds, whose "
            "number stands in brackets; differences are to `base` with the same seeds. The "
            "likelihood is at the best temperature for the judged images; lower is better.",
            "",
            "| variant | what | top-1, % | difference | NLL, nats | difference | time |",
            "|---|---|---|---|---|---|---|",
            *(f"| {' | '.join(row.cells())} |" for row in shown),
            "",
        ]
    if missing := [row.variant.name for row in rows if not row.found]:
        lines += [f"Not run, or with other changes than now: {', '.join(missing)}.", ""]
    return lines


def _mean(values: Sequence[float], form: str) -> str:
    if not values:
        return _NONE
    spread = f" ± {stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{fmean(values):{form}}{spread}"
