"""Same bits everywhere: an INT8 model's logits, from the image file on, on unlike processors.

    python tests/isa/same_bits.py [--model M.onnx] [--cache DIR] [--count N] [--platforms A,B]
                                  [--jobs N] [IMAGE or FOLDER...]

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emulators import Platform, emulated_platforms, host_platforms, last_line

from edge_fgr.errors import EdgeFgrError, InputMissingError, UnavailableError, UsageError
from edge_fgr.parallel import cores
from edge_fgr.progress import say
from edge_fgr.sources import expand

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


def matching(platforms: Sequence[Platform], parts: Sequence[str]) -> list[Platform]:
    """Return the platforms whose name has one of the parts in it, in any case."""
    return [one for one in platforms if any(part.lower() in one.name.lower() for part in parts)]


def report(
    model: Path, cache: Path, images: Sequence[str], wanted: Sequence[str], jobs: int
) -> bool:
    """Print a row per platform, what differs, and the JSON line; return whether all agree.

    Args:
        model: the model.
        cache: where the emulators are, or are put.
        images: files.
        wanted: parts of the names of the platforms that are compared with the first one; none: all.
        jobs: platforms that run side by side.
    """
    first, *others = hosts = host_platforms()
    # Before the set-up, so that a bad model or image is told at once.
    reference, seconds = run(first, model, images)
    if not wanted or any(not matching(hosts, [part]) for part in wanted):
        others += emulated_platforms(first, cache, reference["versions"])
    for part in wanted:
        if not matching([first, *others], [part]):
            names = "; ".join(dict.fromkeys(one.name for one in (first, *others)))
            raise UsageError(f"--platforms {part}: is part of none of: {names}")
    others = matching(others, wanted) if wanted else others
    row = "{:<24} {:>11} {:>6} {:>9} {:>7}"
    print(row.format("platform", "onnxruntime", "images", "identical", "seconds"))
    results = []

    def add(where: Platform, answer: dict[str, Any], seconds: float) -> None:
        release = answer["versions"]["onnxruntime"]
        differences = compare(images, reference, answer)
        results.append(Result(where.name, release, len(images), round(seconds, 1), differences))
        verdict = "no" if differences else "yes"
        print(row.format(where.name, release, len(images), verdict, f"{seconds:.1f}"), flush=True)
        for one in differences:
            what = "pixels and logits" if one.pixels else "logits"
            print(f"  {one.image}: {what} differ, a logit by up to {one.logits:.6g}")

    add(first, reference, seconds)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, where, model, images) for where in others]
        try:
            for where, answer in zip(others, waiting, strict=True):
                add(where, *answer.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    same = not any(result.differences for result in results)
    summary = {"model": str(model), "identical": same, "platforms": [asdict(r) for r in results]}
    print(json.dumps(summary))
    return same


def chosen(names: Sequence[str], count: int | None) -> list[str]:
    """Return image files: those named, and those in folders and below, evenly spread.

    Raises:
        EdgeFgrError: nothing is there, or something may not be read.
    """
    found: list[str] = []
    for source in expand(names, recursive=True):
        if isinstance(source, EdgeFgrError):
            raise source
        found.append(str(source))
    if count is None or count >= len(found):
        return found
    return [found[i * len(found) // count] for i in range(count)]


def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files or folders; default: ours"
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache/isa")
    parser.add_argument("--count", type=int, metavar="N", help="so many images, evenly spread")
    parser.add_argument("--platforms", default="", metavar="A,B", help="parts of platforms' names")
    parser.add_argument(
        "--jobs", type=int, default=cores(), help="platforms side by side; default: %(default)s"
    )
    options = parser.parse_args()
    wanted = [part.strip() for part in options.platforms.split(",") if part.strip()]
    photos = sorted(str(path) for folder in PHOTOS for path in folder.glob("*.jpg"))
    try:
        if options.jobs < 1 or (options.count is not None and options.count < 1):
            raise UsageError("--count and --jobs: at least 1 is needed")
        images = chosen(options.images or photos, options.count)
        if not images:
            raise InputMissingError(f"no photos in {PHOTOS[0]} or {PHOTOS[1]}: name image files")
        if not options.model.is_file():
            raise InputMissingError(f"{options.model}: no such model: export it, or give --model")
        same = report(options.model, options.cache.absolute(), images, wanted, options.jobs)
        return 0 if same else 1
    except EdgeFgrError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
