"""Corruptions of photographs, each in five strengths: how a classifier's accuracy falls.

    python -m edge_fgr_bench.corruptions --time [--side 256] [--image PHOTO.jpg] [--json]

Fifteen follow ImageNet-C (Hendrycks and Dietterich, ICLR 2019); the others are what cameras do.
docs/robustness.md has the strengths. No state is shared: threads may call ``corrupt`` at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Literal
from zlib import crc32

import numpy as np
from PIL import Image

from edge_fgr.errors import UsageError
from edge_fgr.image import load
from edge_fgr.model import open_model
from edge_fgr_bench import corrupt_blur as blur
from edge_fgr_bench import corrupt_camera as camera
from edge_fgr_bench import corrupt_digital as digital
from edge_fgr_bench import corrupt_noise as noise
from edge_fgr_bench import corrupt_weather as weather
from edge_fgr_bench.corrupt_noise import Pixels
from edge_fgr_bench.install import PHOTOS
from edge_fgr_bench.told import parser_of, told

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt", "milliseconds"]

Group = Literal["noise", "blur", "weather", "digital", "camera"]

_Does = Callable[[Pixels, int, np.random.Generator], Pixels]

SEVERITIES = (1, 2, 3, 4, 5)
"""From slight to strong."""

_LEAST = 8
"""Shortest side in pixels."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """A way in which a picture gets worse.

    Attributes:
        name: what ``corrupt`` takes.
        group: its kind. ``motion_blur`` and ``jpeg_compression`` are cameras' doing as well.
        says: what it does, in a line.
    """

    name: str
    group: Group
    says: str


_ALL: tuple[tuple[_Does, Group, str], ...] = (
    (noise.gaussian_noise, "noise", "normal noise on each value"),
    (noise.shot_noise, "noise", "few photons: Poisson noise"),
    (noise.impulse_noise, "noise", "black and white specks"),
    (blur.defocus_blur, "blur", "out of focus"),
    (blur.glass_blur, "blur", "seen through frosted glass"),
    (blur.motion_blur, "blur", "drawn along a line; also a camera's"),
    (blur.zoom_blur, "blur", "moving ahead during the exposure"),
    (weather.snow, "weather", "falling snow"),
    (weather.frost, "weather", "a frosted pane, drawn by a program"),
    (weather.fog, "weather", "clouds of fog"),
    (digital.brightness, "digital", "value of HSV raised"),
    (digital.contrast, "digital", "pulled towards the mean"),
    (digital.elastic_transform, "digital", "shifted, sheared, crumpled"),
    (digital.pixelate, "digital", "few large pixels"),
    (digital.jpeg_compression, "digital", "JPEG at low quality; also a camera's"),
    (camera.exposure_over, "camera", "overexposed, highlights clipped"),
    (camera.exposure_under, "camera", "underexposed"),
    (camera.white_balance, "camera", "a warm or a cold cast"),
    (camera.sensor_noise, "camera", "photon and read noise in linear light"),
    (camera.hand_shake, "camera", "hand-held: blurred along a bent path"),
    (camera.low_light, "camera", "dark, noisy, high gain"),
    (camera.vignette, "camera", "dark corners"),
    (camera.lens_flare, "camera", "a lamp shines into the lens"),
)

CORRUPTIONS: tuple[Corruption, ...] = tuple(
    Corruption(does.__name__, group, says) for does, group, says in _ALL
)
"""All of them; the first fifteen are ImageNet-C's, in the order of its tables."""

_DOES = {does.__name__: does for does, _, _ in _ALL}


def corrupt(pixels: Pixels, name: str, severity: int, seed: int) -> Pixels:
    """Return a corrupted copy; equal arguments give equal bits, in any thread.

    Args:
        pixels: uint8 ``(H, W, 3)``, RGB, each side 8 pixels or more; it is not changed. Lengths are
            given for a short side of 224 pixels and grow with it.
        name: one of ``CORRUPTIONS``.
        severity: 1 (slight) to 5 (strong).
        seed: 0 or more; what is left to chance depends on it, the name and the severity.

    Returns:
        uint8 ``(H, W, 3)``, RGB, an array of its own.

    Raises:
        UsageError: an argument is not one of these.
    """
    if name not in _DOES:
        raise UsageError(f"{name}: no such corruption; there are {', '.join(_DOES)}")
    if severity not in SEVERITIES:
        raise UsageError(f"{name}: severity is 1 to 5, not {severity}")
    if seed < 0:
        raise UsageError(f"{name}: seed is 0 or more, not {seed}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(f"{name}: pixels are uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    if min(pixels.shape[:2]) < _LEAST:
        raise UsageError(
            f"{name}: {pixels.shape[:2]} is too small; {_LEAST} pixels a side at least"
        )
    entropy = [int(seed), crc32(name.encode()), int(severity)]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    return np.ascontiguousarray(_DOES[name](pixels, int(severity), rng))


def milliseconds(pixels: Pixels, runs: int = 3) -> dict[str, float]:
    """Return the mean over severities of the median time, by corruption, on this thread."""
    found: dict[str, float] = {}
    for _ in range(2):  # the first round fills caches
        for each in CORRUPTIONS:
            took = [
                median(_taken(pixels, each.name, severity, seed) for seed in range(runs))
                for severity in SEVERITIES
            ]
            found[each.name] = mean(took)
    return found


def _taken(pixels: Pixels, name: str, severity: int, seed: int) -> float:
    start = perf_counter()
    corrupt(pixels, name, severity, seed)
    return (perf_counter() - start) * 1e3


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("--time", action="store_true", help="measure milliseconds of each")
    parser.add_argument("--side", type=int, default=256, help="pixels of the square; default 256")
    parser.add_argument("--image", type=Path, default=PHOTOS / "Fruit_Banana_013.jpg")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args()
    if not options.time:
        for each in CORRUPTIONS:
            print(f"{each.name:18} {each.group:8} {each.says}")
        return 0
    square = load(options.image, open_model(device="cpu").contract.geometry)
    side = (options.side, options.side)
    took = milliseconds(np.asarray(Image.fromarray(square).resize(side)))
    if options.json:
        print(json.dumps({"schema_version": 1, "side": options.side, "figures": took}))
        return 0
    for name, ms in took.items():
        print(f"{ms:7.2f}  {name}")
    print(f"{mean(took.values()):7.2f}  mean; milliseconds at {side[0]} x {side[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
