"""Same bits everywhere: an INT8 model's logits, from the image file on, on unlike processors.

    python tests/isa/same_bits.py [--model M.onnx] [--cache DIR] [IMAGE...]

Every platform runs ``logits_of.py``; its pixels and logits are compared, to the last bit, with
those of the host on one thread. The first run fetches the emulators and what runs inside them into
the cache; README.md beside this file says what that is. Prints a table, then one JSON line.
Exit codes: 0 all identical, 1 bits differ, 69 this machine cannot run the test, 2 wrong usage,
65, 66, 77 and 78 as in ``edge_fgr.errors``: an image or a model that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emulators import Platform, emulated_platforms, host_platforms, last_line

from edge_fgr.errors import EdgeFgrError, InputMissingError, UnavailableError
from edge_fgr.progress import say

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("logits_of.py")
MODEL = REPOSITORY / "runtime/edge_fgr/models/grocery81.onnx"
PHOTOS = (REPOSITORY / "examples", REPOSITORY / "tests/golden/images")


@dataclass(frozen=True, slots=True)
class Difference:
    """An image whose bits differ; ``logits`` is the largest absolute difference of a logit."""

    image: str
    pixels: bool
    logits: float


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the table."""

    platform: str
    onnxruntime: str
    images: int
    seconds: float
    differences: tuple[Difference, ...]


def run(where: Platform, model: Path, images: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run ``logits_of.py`` on a platform; return its answer, and the seconds that it took.

    Raises:
        UnavailableError: it died, hung, or is not the processor that it should be.
        EdgeFgrError: the model or an image cannot be used.
    """
    arguments = [str(PROGRAM), str(model), str(where.threads), str(where.batch), *images]
    command = [*where.command, *arguments]
    limit = 120 + 60 * len(images)  # an emulated image takes one second, on a busy machine a few
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, env=where.environment, capture_output=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{where.name}: no answer within {limit} s") from None
    except OSError as error:
        raise UnavailableError(f"{command[0]}: cannot be run ({error.strerror})") from None
    seconds = time.monotonic() - start
    if done.returncode in (65, 66, 77, 78):
        refusal = EdgeFgrError(last_line(done.stderr))
        refusal.exit_code = done.returncode
        raise refusal
    if done.returncode:
        why = f"exit status {done.returncode}; {last_line(done.stderr)}"
        raise UnavailableError(f"{where.name}: onnxruntime or the emulator failed ({why})")
    answer: dict[str, Any] = json.loads(done.stdout)
    features = frozenset(answer["features"])
    if wrong := sorted((where.has - features) | (where.lacks & features)):
        raise UnavailableError(
            f"{where.name}: the emulator does not get {', '.join(wrong)} right; qemu 7.2 or newer "
            "is needed: remove an older qemu-user-static, and the test fetches its own"
        )
    return answer, seconds


def compare(
    images: Sequence[str], reference: dict[str, Any], answer: dict[str, Any]
) -> tuple[Difference, ...]:
    """Return the images whose pixels or logits differ in any bit, the sign of a zero included."""
    found = []
    for image, a, b in zip(images, reference["images"], answer["images"], strict=True):
        if a != b:
            one, other = (np.frombuffer(bytes.fromhex(x["logits"]), dtype="<f4") for x in (a, b))
            largest = float(np.abs(np.nan_to_num(one - other)).max())
            found.append(Difference(image, a["pixels"] != b["pixels"], largest))
    return tuple(found)


def report(model: Path, cache: Path, images: Sequence[str]) -> bool:
    """Print a row per platform, what differs, and the JSON line; return whether all agree."""
    first, *others = host_platforms()
    # Before the set-up, so that a bad model or image is told at once.
    reference, seconds = run(first, model, images)
    others += emulated_platforms(first, cache, reference["versions"])
    row = "{:<24} {:>11} {:>6} {:>9} {:>7}"
    print(row.format("platform", "onnxruntime", "images", "identical", "seconds"))
    results = []
    for where in (first, *others):
        answer = reference
        if where is not first:
            answer, seconds = run(where, model, images)
        release = answer["versions"]["onnxruntime"]
        differences = compare(images, reference, answer)
        results.append(Result(where.name, release, len(images), round(seconds, 1), differences))
        verdict = "no" if differences else "yes"
        print(row.format(where.name, release, len(images), verdict, f"{seconds:.1f}"), flush=True)
        for one in differences:
            what = "pixels and logits" if one.pixels else "logits"
            print(f"  {one.image}: {what} differ, a logit by up to {one.logits:.6g}")
    same = not any(result.differences for result in results)
    summary = {"model": str(model), "identical": same, "platforms": [asdict(r) for r in results]}
    print(json.dumps(summary))
    return same


def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="default: the project's photos")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache/isa")
    options = parser.parse_args()
    photos = sorted(str(path) for folder in PHOTOS for path in folder.glob("*.jpg"))
    images = options.images or photos
    try:
        if not images:
            raise InputMissingError(f"no photos in {PHOTOS[0]} or {PHOTOS[1]}: name image files")
        if not options.model.is_file():
            raise InputMissingError(f"{options.model}: no such model: export it, or give --model")
        return 0 if report(options.model, options.cache.absolute(), images) else 1
    except EdgeFgrError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
