"""What 8 bits by default cost a network, and what ``edge-fgr export`` says to it.

python -m edge_fgr_bench.collapse RUN [--data DATA]

Default is ``onnxruntime.quantization.quantize_static`` as its documentation shows it: QDQ, extremes
of the calibration images, one scale a tensor. Top-1 on what the run kept out of training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from edge_fgr.contract import Geometry
from edge_fgr.errors import EdgeFgrError
from edge_fgr_export.command import Options
from edge_fgr_export.command import run as export
from edge_fgr_export.graph import from_network
from edge_fgr_export.images import images_of
from edge_fgr_export.tiles import Plan, tiled
from edge_fgr_export.trial import relative_error, run_graph
from edge_fgr_export.verify import verdict_of
from edge_fgr_train.batches import batches
from edge_fgr_train.checkpoint import Run, load_network

__all__ = ["main"]

_IMAGES = 64


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Pixels of image files, one batch at a time."""

    def __init__(self, paths: Sequence[Path], geometry: Geometry) -> None:
        self._batches = batches(paths, geometry)

    def get_next(self) -> dict[str, Any] | None:
        pixels = next(self._batches, None)
        return None if pixels is None else {"pixels": pixels}


def main(arguments: list[str] | None = None) -> None:
    """Run for the command line: words, then JSON."""
    parser = argparse.ArgumentParser(prog="python -m edge_fgr_bench.collapse", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data")
    chosen = parser.parse_args(arguments)
    made = Run.read(chosen.run)
    images = images_of(made, chosen.data)
    network, contract, _ = load_network(chosen.run)
    geometry, targets = contract.geometry, images.targets(contract)
    plan = Plan(network.tiles, network.good, network.mirrors)
    fp32 = tiled(from_network(network, geometry.size), plan)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(fp32, before)
        quantize_static(before, after, _Reader(images.range_paths[:_IMAGES], geometry))
        wanted = run_graph(fp32, images.paths, geometry)
        logits = run_graph(onnx.load(after), images.paths, geometry)
        verdict = verdict_of(wanted, logits, targets)
        try:
            export(chosen.run, Path(folder) / "ours.onnx", chosen.data, Options())
            said = "exported"
        except EdgeFgrError as error:
            said = f"refused ({error.exit_code}): {error}"
    row = {
        "backbone": made.recipe.model.backbone,
        "images": verdict.images,
        "fp32_top1": verdict.reference_right / verdict.labelled,
        "default_int8_top1": verdict.candidate_right / verdict.labelled,
        "agreement": verdict.agreement,
        "logit_error": relative_error(logits, wanted),
        "edge_fgr": said,
    }
    print(
        f"{row['backbone']}: fp32 {row['fp32_top1']:.1%}, INT8 by default "
        f"{row['default_int8_top1']:.1%} of {verdict.images} images, labels agree "
        f"{verdict.agreement:.1%}\nedge-fgr export: {said}"
    )
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
