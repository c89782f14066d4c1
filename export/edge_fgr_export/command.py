"""``edge-fgr export``: reached by name from the command line of the runtime.

Nothing stands under its final name before it was compared on image files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edge_fgr.contract import METADATA_KEY, Confidence, Contract
from edge_fgr.errors import InputMissingError, ModelError, UsageError
from edge_fgr.files import atomic_path
from edge_fgr.model import open_model
from edge_fgr.progress import say
from edge_fgr_export.graph import from_network
from edge_fgr_export.parity import Comparison, compare, fit_temperature, logits_of
from edge_fgr_export.quantise import groups_of, kernels_of, quantise
from edge_fgr_export.ranges import collect
from edge_fgr_train.checkpoint import Run, load_network
from edge_fgr_train.dataset import class_of
from edge_fgr_train.evaluate import logits_of as torch_logits_of

__all__ = ["RANGE_IMAGES", "fp32_path", "run", "stamp"]

RANGE_IMAGES = 256
"""How many training images the activation ranges come from, spread evenly over the classes."""

_MAX_LOGIT_DIFFERENCE = 1e-3
_MIN_AGREEMENT = 0.95


def run(folder: Path, output: Path, data: Path | None) -> None:
    """Export a run as INT8 ``output`` and its fp32 twin beside it.

    Args:
        folder: the run.
        output: the INT8 model; ``x.onnx`` has the twin ``x.fp32.onnx``.
        data: where the run's images are now; by default where they were.

    Raises:
        InputMissingError: no run, or its images are gone.
        ModelError: the graph cannot be quantised, or does not agree with the network.
        OutputError: a file could not be written; an older one stays untouched.
    """
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: the model's name must end in .onnx")
    network, contract, made = load_network(folder)
    root = data or Path(made.data)
    held = made.calibration or made.evaluate
    judged, judged_by = (held, "calibration") if held else (made.fit, "fit")
    paths = _paths(root, judged)
    index = {label: i for i, label in enumerate(contract.labels)}
    targets = [index[class_of(name, made.splits)] for name in judged]

    say("fp32: exporting")
    fp32 = from_network(network, contract.geometry.size)
    reference = torch_logits_of(network, paths, contract.geometry)
    with atomic_path(fp32_path(output)) as beside:
        beside.write_bytes(stamp(fp32, replace(contract, target="fp32")))
        fp32_logits = logits_of(open_model(beside, device="cpu"), paths, contract.geometry)
        same = compare(reference, fp32_logits, targets)
        say(same.line("torch", "fp32"))
        if same.largest > _MAX_LOGIT_DIFFERENCE:
            raise ModelError(f"{output}: fp32 differs from the network by {same.largest:.2g}")

    say(f"int8: ranges from {min(RANGE_IMAGES, len(made.fit))} training images")
    groups = groups_of(fp32)
    chosen = _spread(made.fit, made, RANGE_IMAGES)
    seen = collect(fp32, groups, _paths(root, chosen), contract.geometry, kernels_of(fp32))
    int8 = quantise(fp32, groups, seen)
    with atomic_path(output) as beside:
        beside.write_bytes(stamp(int8, contract))
        int8_logits = logits_of(open_model(beside, device="cpu"), paths, contract.geometry)
        result = compare(fp32_logits, int8_logits, targets)
        say(result.line("fp32", "int8"))
        if result.agreement < _MIN_AGREEMENT:
            raise ModelError(
                f"{output}: INT8 agrees with fp32 on only {result.agreement:.1%} of the images; "
                "train longer, or deploy the fp32 file"
            )
        confidence = Confidence(fit_temperature(int8_logits, targets)) if held else None
        final = replace(
            contract,
            target="portable",
            confidence=confidence,
            provenance=replace(contract.provenance, metrics={judged_by: _metrics(same, result)}),
        )
        beside.write_bytes(stamp(int8, final))
        again = logits_of(open_model(beside, device="cpu"), paths[:8], contract.geometry)
        if not np.array_equal(again, int8_logits[:8]):
            raise ModelError(f"{output}: the stamped model does not repeat its own logits")
    say(f"{output}: done ({output.stat().st_size / 1e6:.2f} MB); fp32: {fp32_path(output)}")


def stamp(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Return the model's bytes with ``contract`` in its metadata; equal input gives equal bytes."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    helper.set_model_props(stamped, {METADATA_KEY: contract.to_json()})
    return bytes(stamped.SerializeToString(deterministic=True))


def fp32_path(output: Path) -> Path:
    """Return where the fp32 twin of an INT8 model stands."""
    return output.with_suffix(".fp32.onnx")


def _metrics(same: Comparison, result: Comparison) -> dict[str, float]:
    return {
        "images": float(result.images),
        "torch_top1": round(same.reference_top1, 4),
        "fp32_top1": round(result.reference_top1, 4),
        "int8_top1": round(result.candidate_top1, 4),
        "agreement": round(result.agreement, 4),
    }


def _paths(root: Path, names: Sequence[str]) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        if not path.exists():
            raise InputMissingError(
                f"{path}: an image of the run is gone; say with --data where the images are"
            )
    return paths


def _spread(names: Sequence[str], made: Run, count: int) -> list[str]:
    """Take one image of each class in turn until there are ``count``."""
    classes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in sorted(names):
        classes[class_of(name, made.splits)].append(name)
    turns = sorted(
        (place, label, name)
        for label, members in classes.items()
        for place, name in enumerate(members)
    )
    return sorted(name for _, _, name in turns[:count])
