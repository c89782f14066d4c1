"""From fp32 to the cheapest INT8 graph within a budget of accuracy, step by step.

Each step is tried on held-out images and kept where it brings the logits nearer to those of fp32:
nearest rounding over the extremes, better ranges, bias correction, finer codes in silent channels,
equalised chains, weights that are rounded jointly, and the mean of the logits. If top-1 still falls
by more than the budget, the weights of the most sensitive layers get more than 8 bits, as few
layers as will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from edge_fgr.errors import ModelError
from edge_fgr.progress import progress, say
from edge_fgr_export.copies import Copies, copies_of, known_with, with_copies
from edge_fgr_export.equalise import chains_of, equalise, factors_of, moved
from edge_fgr_export.groups import body_of, groups_of, kernels_of, scales_of
from edge_fgr_export.qdq import Memory
from edge_fgr_export.quantise import Settings, quantise
from edge_fgr_export.ranges import Statistics, collect
from edge_fgr_export.trial import Bench, Trial, within
from edge_fgr_export.verify import Verdict

__all__ = ["Outcome", "quantise_within", "sensitivities", "table"]

_WORTH = 0.995
"""A step is kept if it leaves at most this share of the error."""

_TELLING = 16
"""With fewer images to choose on, chance would choose: every step is taken."""

_SHIFTED = 64
"""Range images that the mean of the logits comes from."""

_SENSED = 32
"""Images that the sensitivity of layers is measured on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The INT8 graph, and how it came about.

    Attributes:
        model: the graph, of one tile where ``fp32`` was.
        trials: what each step came to.
        sensitivity: where layers had to be widened: for the weights of each layer by how much the
            squared error of the logits falls when they alone are wide, the most sensitive first.
    """

    model: onnx.ModelProto
    trials: tuple[Trial, ...]
    sensitivity: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """What the steps so far have chosen; ``memory`` holds weights rounded with what was seen."""

    model: onnx.ModelProto
    seen: Statistics
    settings: Settings
    memory: Memory = field(default_factory=dict)


def quantise_within(
    fp32: onnx.ModelProto,
    settings: Settings,
    bench: Bench,
    range_paths: Sequence[Path],
    *,
    method: str = "auto",
    max_drop: float,
) -> Outcome:
    """Quantise step by step until the budget holds.

    Args:
        fp32: the graph; of one tile, where the bench has a plan of tiles.
        settings: the target, and whether the head is fine; the rest is chosen here.
        bench: what steps are chosen on, and the budget is judged on.
        range_paths: images that ranges and covariances come from.
        method: of ``range_methods``; ``auto`` takes for each tensor what costs least.
        max_drop: most that top-1 may fall, in points.

    Raises:
        ModelError: an operator has no integer form, or the budget cannot be met.
    """
    groups = groups_of(fp32, tied=settings.target.tied)
    chains = chains_of(fp32)
    seen = collect(
        fp32,
        groups,
        range_paths,
        bench.geometry,
        kernels_of(fp32),
        held=bench.chosen_on,
        reaching=list(chains),
        tiles=bench.plan.tiles,
    )
    plain = replace(settings, joint=False, correct=False)
    first = _State(fp32, seen.by("min-max"), plain)
    steps = _Steps(bench, groups, first)
    steps.take("nearest, min-max", first)
    chosen = replace(first, seen=seen.by(method))
    steps.take(f"ranges: {method}", chosen, always=method != "auto")
    steps.take("bias correction", replace(steps.now, settings=replace(plain, correct=True)))
    if copies := copies_of(fp32):
        count = sum(found.count for found in copies)
        steps.take(f"{count} silent channels used", _copied(steps.now, groups, copies))
    if chains:
        steps.take("equalised chains", _equalised(steps.now, groups, range_paths, bench, method))
    # Joint rounding looks at variances alone; the means are left to bias correction.
    joint = replace(steps.now.settings, joint=True, correct=True)
    steps.take("weights rounded on data", replace(steps.now, settings=joint))
    some = range_paths[:_SHIFTED]
    now, exact = (bench.run(model, some) for model in (steps.model, fp32))
    off = (now.astype(float) - exact).mean(axis=0)
    shift = replace(steps.now.settings, shift=off)
    steps.take("mean of the logits", replace(steps.now, settings=shift))
    found = {} if within(steps.verdict, max_drop) else _widen(steps, max_drop)
    return Outcome(steps.model, tuple(steps.trials), found)


class _Steps:
    """Tries steps one after the other, and keeps those that help."""

    model: onnx.ModelProto
    verdict: Verdict

    def __init__(self, bench: Bench, groups: Mapping[str, str], first: _State) -> None:
        self.bench, self.groups, self.now = bench, groups, first
        self.trials: list[Trial] = []

    def write(self, state: _State) -> onnx.ModelProto:
        """Return the INT8 graph of a state; rounded weights are kept for the next one."""
        return quantise(state.model, self.groups, state.seen, state.settings, state.memory)

    def take(self, name: str, state: _State, *, always: bool = False) -> Trial:
        """Try a step; go on from it where it helps."""
        model = self.write(state)
        error, verdict = self.bench.error(model), self.bench.judge(model)
        before = next((t.error for t in reversed(self.trials) if t.kept), np.inf)
        always = always or len(self.bench.chosen_on) < _TELLING
        kept = always or error <= _WORTH * before
        trial = Trial(name, error, verdict, kept, len(state.settings.wide))
        self.trials.append(trial)
        say(_line(trial))
        if kept:
            self.now, self.model, self.verdict = state, model, verdict
        return trial


def _copied(state: _State, groups: Mapping[str, str], copies: list[Copies]) -> _State:
    """Let silent channels carry others."""
    target = state.settings.target
    scales = scales_of(
        state.model, groups, state.seen.ranges, tied=target.tied, symmetric=target.symmetric
    )
    model = with_copies(state.model, copies, scales, groups)
    return _State(model, known_with(copies, state.seen), state.settings)


def _equalised(
    state: _State,
    groups: Mapping[str, str],
    paths: Sequence[Path],
    bench: Bench,
    method: str,
) -> _State:
    """Equalise the chains; their ranges are taken again, everything else is known."""
    factors = factors_of(state.model, state.seen.reaches)
    model = equalise(state.model, factors)
    chains = chains_of(state.model)
    names = {groups[name] for name in chains if name in groups}
    part = {name: group for name, group in groups.items() if group in names}
    again = collect(
        model, part, paths, bench.geometry, held=bench.chosen_on, tiles=bench.plan.tiles
    ).by(method)
    seen = moved(state.seen, chains, factors)
    seen = replace(seen, ranges={**seen.ranges, **again.ranges})
    return _State(model, seen, state.settings)


def sensitivities(steps: _Steps, layers: Sequence[str]) -> dict[str, float]:
    """Return by how much the squared error falls when the weights of one layer are wide."""
    state, found = steps.now, {}
    before = steps.bench.error(steps.model, _SENSED) ** 2
    with progress(len(layers), "sensitivity of layers") as advance:
        for layer in layers:
            wide = replace(state, settings=replace(state.settings, wide=frozenset([layer])))
            found[layer] = before - steps.bench.error(steps.write(wide), _SENSED) ** 2
            advance(1, "")
    return found


def _widen(steps: _Steps, max_drop: float) -> dict[str, float]:
    """Give the most sensitive layers wider weights until the budget holds.

    Returns:
        The sensitivities, as in ``Outcome``.

    Raises:
        ModelError: it does not, with all of them wide.
    """
    start = steps.now
    convs = {node.name: node.input[1] for node in body_of(start.model) if node.op_type == "Conv"}
    layers = list(convs)
    if start.settings.target.kind == "litert":
        raise ModelError(
            f"INT8 loses more top-1 than --max-drop {max_drop:g} allows, and LiteRT has no wider "
            "weights: fine-tune for INT8 (edge-fgr train --qat RUN -o RUN2), or allow more"
        )

    def with_wide(names: Sequence[str]) -> _State:
        return replace(start, settings=replace(start.settings, wide=frozenset(names)))

    last = steps.take(f"all {len(layers)} layers wide", with_wide(layers), always=True)
    if not within(last.verdict, max_drop):
        fall = 100 * (last.verdict.lost - last.verdict.won) / last.verdict.labelled
        raise ModelError(
            f"INT8 loses {fall:.1f} points of top-1 on {last.verdict.labelled} images, more than "
            f"--max-drop {max_drop:g} allows, and wider weights do not help: activations do not "
            "fit 8 bits. Fine-tune for INT8 (edge-fgr train --qat RUN -o RUN2), export "
            "--target fp16 or fp32, or allow more with --max-drop"
        )
    steps.now, steps.model = start, steps.write(start)
    gains = sensitivities(steps, layers)
    order = sorted(layers, key=lambda layer: -gains[layer])
    say(f"the most sensitive layers: {', '.join(convs[layer] for layer in order[:3])}")
    count = 1
    while count < len(layers):
        trial = steps.take(f"the worst {count} wide", with_wide(order[:count]), always=True)
        if within(trial.verdict, max_drop):
            break
        count *= 2
    else:
        steps.take(f"all {len(layers)} layers wide", with_wide(layers), always=True)
    return {convs[layer]: gains[layer] for layer in order}


def _line(trial: Trial) -> str:
    """Return a step as one line for people."""
    verdict = trial.verdict
    fall = 100 * (verdict.drop or 0)
    return (
        f"  {trial.name:26} logit error {100 * trial.error:6.2f} %, labels agree "
        f"{100 * verdict.agreement:6.2f} %, top-1 {-fall:+5.2f} points"
        f"{'' if trial.kept else '   (not kept)'}"
    )


def table(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """Return the steps as JSON-ready values."""
    return [
        {
            "step": trial.name,
            "logit_error": round(trial.error, 6),
            "agreement": round(trial.verdict.agreement, 6),
            "drop": None if trial.verdict.drop is None else round(trial.verdict.drop, 6),
            "wide": trial.wide,
            "kept": trial.kept,
        }
        for trial in trials
    ]
