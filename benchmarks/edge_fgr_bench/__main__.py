"""Measure the figures of docs/figures.md: a table on stdout, then one line of JSON.

    python -m edge_fgr_bench [--data ../shared/data/grocery --fp32 grocery81.fp32.onnx]
                             [--bare ../shared/tools/bare_script.py] [--only bits,cold,…]

Accuracy needs ``--data`` (folders ``val`` and ``test``), agreement also ``--fp32``; cold start
needs ``--bare``, a script that classifies one photo by hand: ``bare MODEL PHOTO``.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edge_fgr.model import DEFAULT, embedded, open_model
from edge_fgr_bench.accuracy import judge_all
from edge_fgr_bench.bits import same_bits
from edge_fgr_bench.cold import cold_start
from edge_fgr_bench.install import PHOTOS, ROOT, build_wheel, install_light, packages_of, weigh
from edge_fgr_bench.told import parser_of

_PARTS = ("bits", "size", "cold", "accuracy")


def main() -> None:
    """Run the parts that were asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--splits", default="test,val")
    parser.add_argument("--model", type=Path, default=embedded()[DEFAULT])
    parser.add_argument("--fp32", type=Path)
    parser.add_argument("--bare", type=Path, default=ROOT.parent / "shared/tools/bare_script.py")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", default=",".join(_PARTS))
    options = parser.parse_args()
    wanted = options.only.split(",")
    photos = sorted(PHOTOS.glob("*.jpg"))
    found: dict[str, Mapping[str, object]] = {}
    if "bits" in wanted:
        found["bits"] = same_bits(options.model, photos)
    if "size" in wanted or "cold" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            wheel = build_wheel(Path(folder))
            python = install_light(wheel, Path(folder) / "venv")
            found["size"] = {
                "model_bytes": options.model.stat().st_size,
                "wheel_bytes": wheel.stat().st_size,
                "light_install_bytes": weigh(python),
                "packages": len(packages_of(python)),
            }
            if "cold" in wanted and options.bare.exists():
                found["cold"] = cold_start(
                    options.model, photos[0], options.bare, options.runs, str(python)
                )
    if "accuracy" in wanted and options.data:
        models = {"int8": open_model(options.model, device="cpu")}
        if options.fp32:
            models["fp32"] = open_model(options.fp32, device="cpu")
        splits = options.splits.split(",")
        found |= {f"accuracy {k}": v for k, v in judge_all(models, options.data, splits).items()}
    for part, figures in found.items():
        for name, value in figures.items():
            shown = f"{value:.4f}" if isinstance(value, float) else value
            print(f"{part:20} {name:22} {shown}")
    host = {"machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"schema_version": 1, "host": host, "figures": found}))


if __name__ == "__main__":
    main()
