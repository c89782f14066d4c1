"""``edge-fgr export``: reached by name from the command line of the runtime.

Nothing stands under its final name before it was compared on image files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edge_fgr.contract import METADATA_KEY, Confidence, Contract
from edge_fgr.errors import ModelError, UsageError
from edge_fgr.files import atomic_path
from edge_fgr.model import open_model
from edge_fgr.progress import say
from edge_fgr_export.graph import from_network
from edge_fgr_export.images import RANGE_IMAGES, Images, images_of
from edge_fgr_export.parity import (
    answers_of,
    check_int8,
    check_twin,
    embeddings_of,
    logits_of,
)
from edge_fgr_export.quantise import groups_of, kernels_of, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_export.rehead import rehead
from edge_fgr_train.checkpoint import Run, load_head, load_network
from edge_fgr_train.evaluate import logits_of as torch_logits_of
from edge_fgr_train.linear import LinearHead
from edge_fgr_train.temperature import fit_temperature

__all__ = ["RANGE_IMAGES", "fp32_path", "run", "stamp"]

Floats = npt.NDArray[np.float32]


def run(folder: Path, output: Path | None, data: str | None) -> None:
    """Export a run as INT8 ``output`` and its fp32 twin beside it.

    Args:
        folder: the run.
        output: the INT8 model; ``x.onnx`` has the twin ``x.fp32.onnx``. None: in the run's folder.
        data: where the run's images are now; by default where they were.

    Raises:
        InputMissingError: no run, or its images are gone.
        ModelError: the graph cannot be quantised, or does not agree with the network.
        OutputError: a file could not be written; an older one stays untouched.
    """
    made = Run.read(folder)
    output = output or folder / f"{made.recipe.name}.onnx"
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: the model's name must end in .onnx")
    images = images_of(made, data)
    if made.base:
        _new_head(folder, made, output, images)
    else:
        _network(folder, made, output, images)


def _network(folder: Path, made: Run, output: Path, images: Images) -> None:
    network, contract, _ = load_network(folder)
    say("fp32: exporting")
    fp32 = from_network(network, contract.geometry.size)
    reference = torch_logits_of(network, images.paths, contract.geometry)
    with atomic_path(fp32_path(output)) as beside:
        beside.write_bytes(stamp(fp32, replace(contract, target="fp32")))
        logits = logits_of(open_model(beside, device="cpu"), images.paths, contract.geometry)
        top1 = check_twin(output, reference, logits, images.targets(contract))
    say(f"int8: ranges from {len(images.ranges)} training images")
    groups, head = groups_of(fp32), None
    if made.recipe.chain is not None:
        weight, bias, _ = load_head(folder)
        head = LinearHead(weight, bias, made.recipe.model.l2)
    seen = collect(fp32, groups, images.range_paths, contract.geometry, kernels_of(fp32))
    int8 = quantise(fp32, groups, seen, fine_head=head is not None)
    contract = replace(contract, target="portable")
    _write(output, int8, contract, images, logits, head, {"torch_top1": top1})
    say(f"{output}: done ({output.stat().st_size / 1e6:.2f} MB); fp32: {fp32_path(output)}")


def _new_head(folder: Path, made: Run, output: Path, images: Images) -> None:
    """A chain on an exported model: its graph with another head."""
    weight, bias, contract = load_head(folder)
    path = folder / made.base
    base = open_model(path, device="cpu")
    head = LinearHead(weight, bias, made.recipe.model.l2)
    say(f"{base.id.name}: a new head on its {base.contract.target} graph")
    model = rehead(onnx.load(path), weight, bias, l2=head.l2)
    contract = replace(contract, target=base.contract.target)
    exact = head(embeddings_of(base, images.paths, contract.geometry))
    _write(output, model, contract, images, exact, head, {})
    say(f"{output}: done ({output.stat().st_size / 1e6:.2f} MB)")


def _write(
    output: Path,
    model: onnx.ModelProto,
    contract: Contract,
    images: Images,
    reference: Floats,
    head: LinearHead | None,
    metrics: dict[str, float],
) -> None:
    """Compare, fit the confidence on the graph itself, stamp, and give the file its name."""
    targets, geometry = images.targets(contract), contract.geometry
    with atomic_path(output) as beside:
        beside.write_bytes(stamp(model, contract))
        logits, embedding = answers_of(open_model(beside, device="cpu"), images.paths, geometry)
        exact = head(embedding) if head else None
        metrics |= check_int8(output, reference, logits, targets, exact)
        # What a chain found by cross-validation stands where no image was kept out.
        confidence = contract.confidence
        if images.held:
            confidence = Confidence(fit_temperature(logits, targets))
        rounded = {name: round(value, 4) for name, value in metrics.items()}
        final = replace(
            contract,
            confidence=confidence,
            provenance=replace(contract.provenance, metrics={images.judged_by: rounded}),
        )
        beside.write_bytes(stamp(model, final))
        again = logits_of(open_model(beside, device="cpu"), images.paths[:8], geometry)
        if not np.array_equal(again, logits[:8]):
            raise ModelError(f"{output}: the stamped model does not repeat its own logits")


def stamp(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Return the model's bytes with ``contract`` in its metadata; equal input gives equal bytes."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    helper.set_model_props(stamped, {METADATA_KEY: contract.to_json()})
    return bytes(stamped.SerializeToString(deterministic=True))


def fp32_path(output: Path) -> Path:
    """Return where the fp32 twin of an INT8 model stands."""
    return output.with_suffix(".fp32.onnx")
