"""How much of its accuracy does a model keep when pictures get worse?

    python -m edge_fgr_bench.kept MODEL.onnx DATA [--fp32 TWIN.onnx] [--images 200] [--severity 3]
                                  [--split val] [--seed 0] [--json]

Every image of a labelled set comes as it is and under the fifteen corruptions of ImageNet-C
(``edge_fgr_bench.corruptions``), in the square that the network sees, each image with a seed of its
own: those of ``edge-fgr bench --parts robustness``. Told are top-1 by corruption, the mean of these
over the types, and the share of the accuracy on the same images as they are that this mean keeps.
With ``--fp32`` the twin answers the same pixels, and the differences are told.

Intervals are percentiles of 2000 draws of images, each with all its corrupted copies (Efron 1979).
They tell what other photographs would change, not other corruptions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_fgr.contract import Geometry
from edge_fgr.errors import ModelError, UsageError
from edge_fgr.progress import progress
from edge_fgr_bench.answers import Share
from edge_fgr_bench.bench_images import find_images
from edge_fgr_bench.candidates import Plan
from edge_fgr_bench.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from edge_fgr_bench.estimates import percentiles
from edge_fgr_bench.robust import CLEAN, loaded, places_of, truths_of
from edge_fgr_bench.seats import answer_all, open_seat
from edge_fgr_bench.told import parser_of, told

if TYPE_CHECKING:
    from edge_fgr.image import Pixels

__all__ = ["TYPES", "Kept", "Twin", "kept"]

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TYPES = tuple(one.name for one in CORRUPTIONS if one.group != "camera")
"""ImageNet-C's fifteen."""

_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Twin:
    """What the fp32 twin makes of the same pixels.

    Attributes:
        clean: top-1 on the images as they are, 0 to 1.
        by_type: top-1 by corruption.
        mean: of these.
        kept: ``mean`` over ``clean``.
        less: mean over the types of the model's top-1 less the twin's.
        less_clean: the same on the images as they are.
    """

    clean: Share
    by_type: dict[str, Share]
    mean: Share
    kept: Share
    less: Share
    less_clean: Share


@dataclass(frozen=True, slots=True)
class Kept:
    """What a model keeps; shares are 0 to 1.

    Attributes:
        images: so many, each under every type.
        left_out: images of classes that the model does not know.
        clean, by_type, mean, kept: see ``Twin``.
        twin: None without one.
    """

    images: int
    left_out: int
    severity: int
    seed: int
    clean: Share
    by_type: dict[str, Share]
    mean: Share
    kept: Share
    twin: Twin | None = None


def kept(
    model: str,
    data: str,
    split: str = "val",
    images: int = 200,
    severity: int = 3,
    seed: int = 0,
    fp32: str = "",
) -> Kept:
    """Ask a model, and its twin, about corrupted images.

    Args:
        model: a file or the name of an embedded model.
        data: labelled images, as ``edge_fgr_train.catalog`` opens them.
        split: the part of them; empty: all.
        images: so many, evenly spread over those of known classes.
        severity: 1 to 5.
        seed: of the corruptions; 0 or more.
        fp32: a model of the same classes; empty: none.

    Raises:
        UsageError: a number is out of range, the classes differ, or no image is of a known class.
        ModelError: a model fails, or knows none of the images as they are.
        EdgeFgrError: what ``find_images`` and ``open_seat`` raise.
    """
    if severity not in SEVERITIES:
        raise UsageError(f"--severity {severity}: is 1 to 5")
    if images < 1 or seed < 0:
        raise UsageError("--images: at least 1; --seed: at least 0")
    names = [model, fp32] if fp32 else [model]
    plans = [Plan(key, name, "cpu") for key, name in zip("AB", names, strict=False)]
    seats = [open_seat(plan) for plan in plans]
    if seats[-1].contract.labels != seats[0].contract.labels:
        raise UsageError(f"{fp32}: has other classes than {model}; give its fp32 twin")
    pool = find_images(data, (split,) if split else ())
    known = set(seats[0].contract.labels)
    left_out = sum(truth not in known for truth in pool.truths)
    if left_out == len(pool.truths):
        raise UsageError(f"{data}: no image of a class that {model} knows")
    chosen = places_of(seats, pool, images)
    clean = {g: loaded(pool, chosen, g) for g in {seat.contract.geometry for seat in seats}}
    right: list[list[Bools]] = [[] for _ in seats]
    with progress((1 + len(TYPES)) * len(chosen), "kept") as advance:
        for name in (CLEAN, *TYPES):

            def make(geometry: Geometry, i: int, name: str = name) -> Pixels:
                pixels = clean[geometry][i]
                return (
                    pixels if name == CLEAN else corrupt(pixels, name, severity, seed + chosen[i])
                )

            for seat, rows, answers in zip(
                seats, right, answer_all(seats, make, len(chosen), advance), strict=True
            ):
                if answers is None:
                    raise ModelError(seat.error or seat.candidate.file)
                rows.append(answers.logits.argmax(axis=1) == truths_of(seat, pool, chosen))
    for seat, rows in zip(seats, right, strict=True):
        if not rows[0].any():
            raise ModelError(
                f"{seat.candidate.file}: knows none of the {len(chosen)} images as they are: "
                "nothing can be kept"
            )
    return _figures([np.stack(rows) for rows in right], left_out, severity, seed)


def _figures(right: Sequence[Bools], left_out: int, severity: int, seed: int) -> Kept:
    """Return the figures of rows ``(1 + types, N)``, clean ones first, of one or two models."""
    count = right[0].shape[1]
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _DRAWS) / count
    weights = np.concatenate([np.full((1, count), 1 / count), draws])  # the figure itself is first
    by = [weights @ rows.T.astype(np.float64) for rows in right]  # (draws, 1 + types) each
    own = _shares(by[0])
    if len(by) == 1:
        return Kept(count, left_out, severity, seed, *own)
    less = by[0] - by[1]
    twin = Twin(*_shares(by[1]), _share(less[:, 1:].mean(axis=1)), _share(less[:, 0]))
    return Kept(count, left_out, severity, seed, *own, twin)


def _shares(by: Doubles) -> tuple[Share, dict[str, Share], Share, Share]:
    clean, mean = by[:, 0], by[:, 1:].mean(axis=1)
    share = np.divide(mean, clean, out=np.zeros_like(mean), where=clean > 0)
    types = {name: _share(by[:, i]) for i, name in enumerate(TYPES, 1)}
    return _share(clean), types, _share(mean), _share(share)


def _share(values: Doubles) -> Share:
    """Return the first value with the 95 % interval of the others."""
    return percentiles(float(values[0]), values[1:])


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("model", help="a file or the name of an embedded model")
    parser.add_argument("data")
    parser.add_argument("--fp32", default="", metavar="TWIN", help="a model of the same classes")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--severity", type=int, default=3, help="1 to 5")
    parser.add_argument("--split", default="val", help="of the data; '' for all")
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    options = parser.parse_args(arguments)
    found = kept(
        options.model, options.data, options.split, options.images, options.severity,
        options.seed, options.fp32,
    )  # fmt: skip
    if options.json:
        facts = {"model": Path(options.model).name, "split": options.split}
        print(json.dumps({"schema_version": 1} | facts | asdict(found)))
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: Kept) -> list[str]:
    """Return the table."""
    twin = found.twin
    lines = [
        f"{found.images} images, severity {found.severity}; 95 % intervals over images"
        + (f"; {found.left_out} images of unknown classes left out" if found.left_out else ""),
        f"{'top-1':20} {'model':24}" + (f" {'fp32':24} model less fp32, points" if twin else ""),
        _row("as they are", found.clean, twin.clean if twin else None),
        *(_row(name, found.by_type[name], twin.by_type[name] if twin else None) for name in TYPES),
        _row("mean of the types", found.mean, twin.mean if twin else None),
        _row("kept", found.kept, twin.kept if twin else None),
    ]
    if twin:
        for name, less in (("as they are", twin.less_clean), ("mean of the types", twin.less)):
            low, value, high = (100 * number for number in (less.low, less.value, less.high))
            lines.append(
                f"model less fp32, {name}: {value:+.2f} points ({low:+.2f} to {high:+.2f})"
            )
    return lines


def _row(name: str, own: Share, twin: Share | None) -> str:
    cells = [f"{s.value:7.2%} ({s.low:.2%} to {s.high:.2%})" for s in (own, twin) if s]
    less = f" {100 * (own.value - twin.value):+.2f}" if twin else ""
    return f"{name:20} " + " ".join(f"{cell:24}" for cell in cells).rstrip() + less


if __name__ == "__main__":
    sys.exit(main())
