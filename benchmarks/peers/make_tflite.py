"""Write the ``.tflite`` of an INT8 model, for the peer LiteRT: half a minute.

    python benchmarks/peers/make_tflite.py MODEL.onnx OUT.tflite

Needs the extra ``litert``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from edge_fgr.files import atomic_write
from edge_fgr.model import open_model
from edge_fgr_bench.told import told
from edge_fgr_export.litert import write_litert

__all__: list[str] = []


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    model, out = map(Path, sys.argv[1:])
    contract = open_model(model, device="cpu").contract
    atomic_write(out, write_litert(onnx.load(model), contract))
    return 0


if __name__ == "__main__":
    sys.exit(main())
