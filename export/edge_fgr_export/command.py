"""``edge-fgr export``: reached by name from the command line of the runtime.

Nothing stands under its final name before it was compared on image files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edge_fgr.contract import Contract
from edge_fgr.errors import ModelError, UsageError
from edge_fgr.files import atomic_path, atomic_write
from edge_fgr.model import open_model
from edge_fgr.progress import say
from edge_fgr_export.budget import quantise_within, table
from edge_fgr_export.confidence import fit_confidence
from edge_fgr_export.familiar_fit import MIN_CLASSES
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.graph import from_network
from edge_fgr_export.half import to_half
from edge_fgr_export.images import RANGE_IMAGES, Images, images_of
from edge_fgr_export.litert import check_converter, open_tflite, write_litert
from edge_fgr_export.metadata import stamp
from edge_fgr_export.outsiders import Outsiders, familiarity, of_sibling
from edge_fgr_export.parity import (
    answers_of,
    check_candidate,
    check_twin,
    embeddings_of,
    logits_of,
)
from edge_fgr_export.quantise import Settings
from edge_fgr_export.range_methods import METHODS
from edge_fgr_export.rehead import rehead
from edge_fgr_export.same_bits import check_same_bits
from edge_fgr_export.targets import Target, target_of
from edge_fgr_export.tiles import Plan, tiled
from edge_fgr_export.trial import Bench
from edge_fgr_train.checkpoint import Run, load_head, load_network
from edge_fgr_train.dataset import labels_of
from edge_fgr_train.evaluate import logits_of as torch_logits_of
from edge_fgr_train.linear import LinearHead

__all__ = ["Options", "fp32_path", "run", "stamp"]

Floats = npt.NDArray[np.float32]

_NO_STEPS: dict[str, Any] = {"steps": [], "sensitivity": {}}


@dataclass(frozen=True, slots=True)
class Options:
    """How to export.

    Attributes:
        target: of ``targets``.
        max_drop: most that top-1 may fall against fp32, in points.
        ranges: a method of ``range_methods``, or ``auto``.
        range_images: how many training images ranges come from.
        json: file for the steps and figures; None: none.
        sibling: a run of the same recipe that left some images out: what it says of these is what
            the confidence is fitted on. None: the run's own calibration images.
        sibling_model: its exported model; None: where export writes it.

    Raises:
        UsageError: an option that cannot be meant.
    """

    target: str = "portable"
    max_drop: float = 0.3
    ranges: str = "auto"
    range_images: int = RANGE_IMAGES
    json: Path | None = None
    sibling: Path | None = None
    sibling_model: Path | None = None

    def __post_init__(self) -> None:
        target_of(self.target)
        if not 0 <= self.max_drop <= 100:
            raise UsageError(f"--max-drop {self.max_drop}: a number from 0 to 100 is needed")
        if self.ranges != "auto" and self.ranges not in METHODS:
            raise UsageError(f"--ranges {self.ranges}: is none of auto, {', '.join(METHODS)}")
        if self.range_images < 1:
            raise UsageError(f"--range-images {self.range_images}: at least 1 is needed")
        if self.sibling_model and not self.sibling:
            raise UsageError("--sibling-model: --sibling must say of which run it is")


def run(
    folder: Path, output: Path | None, data: str | None, options: Options | None = None
) -> None:
    """Export a run as ``output``, and its fp32 twin beside it.

    Args:
        folder: the run.
        output: the model; ``x.onnx`` has the twin ``x.fp32.onnx``. None: in the run's folder, by
            the name of the recipe and the target.
        data: where the run's images are now; by default where they were.
        options: what for, and within what budget.

    Raises:
        InputMissingError: no run, or its images are gone.
        MissingExtraError: the target needs packages that are not installed.
        ModelError: the graph cannot be quantised, or does not agree with the network.
        OutputError: a file could not be written; an older one stays untouched.
    """
    options = options or Options()
    target = target_of(options.target)
    made = Run.read(folder)
    other = f".{target.name}" if target.name not in ("portable", "litert") else ""
    output = output or folder / f"{made.recipe.name}{other}{target.suffix}"
    if output.suffix != target.suffix:
        raise UsageError(
            f"{output}: the name of a model for {target.name} must end in {target.suffix}"
        )
    if target.kind == "litert":
        check_converter()  # not after minutes of work
    images = images_of(made, data, options.range_images)
    outsiders = None
    if options.sibling is not None:
        outsiders = of_sibling(options.sibling, options.sibling_model, data, labels_of(images.fit))
    if not made.base:
        facts = _network(folder, made, output, images, outsiders, options)
    elif options.target != "portable":
        raise UsageError(f"{folder}: a chain on an exported model keeps the target of that model")
    else:
        facts = _new_head(folder, made, output, images, outsiders, options)
    if options.json is not None:
        facts = {"schema_version": 1, "target": target.name} | facts
        atomic_write(options.json, json.dumps(facts, indent=1).encode() + b"\n")


def _network(
    folder: Path,
    made: Run,
    output: Path,
    images: Images,
    outsiders: Outsiders | None,
    options: Options,
) -> dict[str, Any]:
    """Export a network; return its steps, and sensitivities where they were needed."""
    network, contract, _ = load_network(folder)
    target, targets = target_of(options.target), images.targets(contract)
    say("fp32: exporting")
    fp32 = from_network(network, contract.geometry.size)
    plan = Plan(network.tiles, network.good, network.mirrors)
    pooling = float_pooling(fp32.graph)
    if plan.tiles > 1 and target.kind == "litert":
        raise ModelError("LiteRT has no form of tiles here; use the .onnx file")
    if plan.mirrors > 1 and target.kind == "litert":
        raise ModelError("LiteRT has no form of mirrored copies here; use the .onnx file")
    if pooling and target.kind == "litert":  # not after minutes of work
        raise ModelError(f"LiteRT has no form of {pooling.kind} pooling here; use the .onnx file")
    reference = torch_logits_of(network, images.paths, contract.geometry)
    twin = output if target.kind == "fp32" else fp32_path(output)
    with atomic_path(twin) as beside:
        beside.write_bytes(stamp(tiled(fp32, plan), replace(contract, target="fp32")))
        model = open_model(beside, device="cpu")
        logits = logits_of(model, images.paths, contract.geometry)
        metrics = {"torch_top1": check_twin(twin, reference, logits, targets)}
        chosen = logits_of(model, images.chosen_paths, contract.geometry)
    head = None
    if made.recipe.chain is not None:
        weight, bias, _ = load_head(folder)
        head = LinearHead(weight, bias, made.recipe.model.l2)
    graph, facts = fp32, _NO_STEPS
    if target.kind == "fp16":
        graph = to_half(fp32)
    elif target.kind != "fp32":
        say(f"int8 for {target.name}: ranges from {len(images.ranges)} training images")
        bench = Bench(
            images.chosen_paths, chosen, images.paths, logits, targets, contract.geometry, plan
        )
        done = quantise_within(
            fp32,
            Settings(target=target, fine_head=head is not None),
            bench,
            images.range_paths,
            method=options.ranges,
            max_drop=options.max_drop,
        )
        graph = done.model
        facts = {"steps": table(done.trials), "sensitivity": dict(done.sensitivity)}
    graph = tiled(graph, plan)
    if target.name == "portable":
        check_same_bits(graph)
        if pooling:
            say(
                f"  {pooling.kind} pooling is float: the same bits are promised up to the "
                "features, not for logits"
            )
    contract = replace(contract, target=target.name)
    _write(output, graph, contract, images, outsiders, logits, head, metrics, target, options)
    size = output.stat().st_size / 1e6
    say(f"{output}: done ({size:.2f} MB){'' if twin == output else f'; fp32: {twin}'}")
    return facts


def _new_head(
    folder: Path,
    made: Run,
    output: Path,
    images: Images,
    outsiders: Outsiders | None,
    options: Options,
) -> dict[str, Any]:
    """A chain on an exported model: its graph with another head."""
    weight, bias, contract = load_head(folder)
    path = folder / made.base
    base = open_model(path, device="cpu")
    head = LinearHead(weight, bias, made.recipe.model.l2)
    say(f"{base.id.name}: a new head on its {base.contract.target} graph")
    model = rehead(onnx.load(path), weight, bias, l2=head.l2)
    target = target_of(base.contract.target)
    contract = replace(contract, target=target.name)
    exact = head(embeddings_of(base, images.paths, contract.geometry))
    _write(output, model, contract, images, outsiders, exact, head, {}, target, options)
    say(f"{output}: done ({output.stat().st_size / 1e6:.2f} MB)")
    return _NO_STEPS


def _write(
    output: Path,
    model: onnx.ModelProto,
    contract: Contract,
    images: Images,
    outsiders: Outsiders | None,
    reference: Floats,
    head: LinearHead | None,
    metrics: dict[str, float],
    target: Target,
    options: Options,
) -> None:
    """Compare, fit the confidence on the graph itself, stamp, and give the file its name."""
    targets = images.targets(contract)

    def answers(path: Path) -> tuple[Floats, Floats | None]:
        if target.kind == "litert":
            return logits_of(open_tflite(path), images.paths, contract.geometry), None
        return answers_of(open_model(path, device="cpu"), images.paths, contract.geometry)

    with atomic_path(output) as beside:
        beside.write_bytes(_bytes(model, contract, target))
        logits, embedding = answers(beside)
        exact = head(embedding) if head and embedding is not None else None
        kind = "int8" if target.kind == "litert" else target.kind
        metrics |= check_candidate(
            output, kind, reference, logits, targets, exact, max_drop=options.max_drop
        )
        # What a chain found by cross-validation stands where no image was kept out.
        found = None
        if embedding is not None:
            found = familiarity(beside, images.fit, contract.labels, embedding)
        document, scores = found or ("", None)
        confidence = contract.confidence
        if images.held or outsiders is not None:
            seen = outsiders or Outsiders(logits, targets, scores, images.judged_by)
            confidence = fit_confidence(
                seen.logits,
                seen.targets,
                contract.labels,
                scores=seen.scores if len(contract.labels) >= MIN_CLASSES and document else None,
                fitted_on=seen.fitted_on,
            )
            scale = seen.scale(images.paths, logits) if images.held else 1.0
            confidence = replace(confidence, temperature=confidence.temperature * scale)
        rounded = {name: round(value, 4) for name, value in metrics.items()}
        final = replace(
            contract,
            confidence=confidence,
            provenance=replace(contract.provenance, metrics={images.judged_by: rounded}),
        )
        beside.write_bytes(_bytes(model, final, target, document))
        again, _ = answers(beside)
        if not np.array_equal(again, logits):
            raise ModelError(f"{output}: the stamped model does not repeat its own logits")


def _bytes(
    model: onnx.ModelProto, contract: Contract, target: Target, familiar: str | None = None
) -> bytes:
    if target.kind == "litert":
        return write_litert(model, contract)
    return stamp(model, contract, familiar)


def fp32_path(output: Path) -> Path:
    """Return where the fp32 twin of an INT8 model stands."""
    return output.with_suffix(".fp32.onnx")
