"""Make the golden values: what the embedded model must say about 32 licensed photographs.

    python tests/golden/make_golden.py [--fp32 grocery81.fp32.onnx]

``golden.json`` holds, per photo, a digest of the pixels, a digest of the INT8 logits' bytes, the
label and the probability. ``fp32_logits.npy`` holds float32 ``(32, C)``: with it INT8 is checked
against fp32 where the large fp32 file is not at hand. Without ``--fp32`` that file is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_fgr import Classifier
from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr.model import open_model

HERE = Path(__file__).parent
PHOTOS = sorted((HERE / "images").glob("*.jpg"))


def pixel_digest(photo: Path, geometry: Geometry) -> str:
    """SHA-256 of the pixels that the network gets."""
    return hashlib.sha256(load(photo, geometry).tobytes()).hexdigest()


def logits_of(model: str | Path | None, photos: list[Path]) -> npt.NDArray[np.float32]:
    """Return logits ``(N, C)``, one image at a time, one thread."""
    opened = open_model(model, device="cpu")
    geometry = opened.contract.geometry
    return np.concatenate([opened.run(load(photo, geometry)[None]) for photo in photos])


def golden_values(photos: list[Path]) -> dict[str, Any]:
    """Return the content of ``golden.json`` for the embedded default model."""
    clf = Classifier.load(device="cpu")
    values: dict[str, Any] = {"model": clf.model.digest, "photos": {}}
    for photo, logits in zip(photos, logits_of(None, photos), strict=True):
        prediction = clf(photo)
        values["photos"][photo.name] = {
            "pixels": pixel_digest(photo, clf.contract.geometry),
            "logits": hashlib.sha256(logits.tobytes()).hexdigest(),
            "label": list(prediction.label),
            "probability": round(prediction.probability, 6),
        }
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fp32", type=Path, help="fp32 twin of the embedded model")
    options = parser.parse_args()
    text = json.dumps(golden_values(PHOTOS), indent=1)
    (HERE / "golden.json").write_text(text + "\n")
    if options.fp32:
        np.save(HERE / "fp32_logits.npy", logits_of(options.fp32, PHOTOS))


if __name__ == "__main__":
    main()
