"""Pixels and logits of images, as JSON on stdout: the part that runs inside each emulator.

    python logits_of.py MODEL THREADS BATCH IMAGE...

``edge_fgr.image`` makes the pixels here, so that decoding and resizing are emulated as well. What
it needs is small enough for an emulated Python that holds no more than the runtime's packages.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import onnxruntime as ort
import PIL

# What np.show_runtime() prints; it has no public name.
from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]

from edge_fgr import image
from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import ContractError, EdgeFgrError, ModelError


def open_session(model: str, threads: int) -> ort.InferenceSession:
    """Open a model on the CPU.

    Raises:
        ModelError: onnxruntime does not take it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that spins while it waits takes an emulated core from the thread that works.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise ModelError(f"{model}: cannot be opened ({_first_line(error)})") from None


def run(model: str, threads: int, batch: int, images: list[str]) -> dict[str, object]:
    """Return versions, processor features, and for each image its pixels' digest and its logits.

    Logits are the bytes of little-endian float32 as hexadecimal digits: JSON numbers would hide a
    last bit or the sign of a zero.

    Raises:
        ModelError: the model cannot be opened, or carries no contract.
        ImageError, InputMissingError: an image cannot be read.
    """
    session = open_session(model, threads)
    document = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if document is None:
        raise ContractError(f"{model}: no contract under the metadata key {METADATA_KEY!r}")
    geometry = Contract.from_json(document).geometry
    rows = []
    for start in range(0, len(images), batch):
        names = images[start : start + batch]
        pixels = np.stack([image.load(name, geometry) for name in names])  # (N, H, W, 3)
        try:
            (logits,) = session.run(["logits"], {"pixels": pixels})  # (N, C)
        except Exception as error:  # as above
            raise ModelError(f"{model}: cannot be run ({_first_line(error)})") from None
        for one, row in zip(pixels, logits, strict=True):
            digest = hashlib.sha256(one.tobytes()).hexdigest()
            rows.append({"pixels": digest, "logits": row.astype("<f4").tobytes().hex()})
    versions = {"onnxruntime": ort.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    features = sorted(name for name, found in __cpu_features__.items() if found)
    return {"versions": versions, "features": features, "images": rows}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def main(arguments: list[str]) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    model, threads, batch, *images = arguments
    try:
        json.dump(run(model, int(threads), int(batch), images), sys.stdout)
    except EdgeFgrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
