"""A device loop: a camera's frames as arrays, one decision each, never behind.

    python examples/factory_loop.py [SECONDS]

``grab`` stands for your camera's driver; any library that gives uint8 arrays does.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edge_fgr import Classifier, EdgeFgrError
from edge_fgr.memory import one_arena

HERE = Path(__file__).parent
PHOTOS = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(HERE.glob("*.jpg"))]


def grab(number: int) -> np.ndarray:
    """Return a frame, uint8 (H, W, 3); drivers of OpenCV give BGR: channels="bgr" below."""
    return PHOTOS[number % len(PHOTOS)]


one_arena()  # threads share their memory
clf = Classifier.load()  # once: it is the slow part
end = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 2)
number = 0
while time.monotonic() < end:
    try:
        found = clf(grab(number), channels="rgb")
    except EdgeFgrError as error:  # one bad frame does not stop the line
        print(f"frame {number}: {error}", file=sys.stderr)
    else:
        label = "/".join(found.verdict.label) or "unknown"
        print(f"{number} {found.verdict.kind} {label} {found.verdict.probability:.3f}")
    number += 1
    time.sleep(0.1)  # your trigger
