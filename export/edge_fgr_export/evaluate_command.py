"""``edge-fgr evaluate``: reached by name from the command line of the runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fgr.decision import probabilities
from edge_fgr.errors import UsageError
from edge_fgr.files import atomic_write, check_outputs
from edge_fgr.progress import say
from edge_fgr.records import to_line
from edge_fgr_export.answerers import Answerer, open_answerer
from edge_fgr_export.class_names import class_named, classes_named
from edge_fgr_export.evaluate_answers import Answers, ask
from edge_fgr_export.evaluate_figures import figures_of
from edge_fgr_export.evaluate_findings import Evaluation, lines, to_json
from edge_fgr_export.metadata import restamp
from edge_fgr_export.operating_points import Judged, choose, judge
from edge_fgr_export.two_sided import two_sided
from edge_fgr_export.verify_images import gather

__all__ = ["Asked", "Outputs", "run"]

_SHARE = 0.05
"""Most of the accepted class that may be rejected, where nothing else was said."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked beyond the figures that every evaluation has.

    Attributes:
        positive: names of the positive classes of a two-sided decision.
        threshold: of their summed probability, 0 to 1.
        accept: name of the class that a line accepts.
        max_false_reject: most of its images that may be rejected, above 0 and below 1.

    Raises:
        UsageError: a number out of its range, or things that do not go together.
    """

    positive: tuple[str, ...] = ()
    threshold: float | None = None
    accept: str | None = None
    max_false_reject: float | None = None

    def __post_init__(self) -> None:
        if self.positive and self.accept is not None:
            raise UsageError("--accept: not together with --positive; run evaluate twice")
        if self.threshold is not None:
            if not self.positive:
                raise UsageError("--threshold: is for --positive; name the positive classes")
            if not 0 <= self.threshold <= 1:
                raise UsageError(f"--threshold {self.threshold:g}: must be within 0 to 1")
        if self.max_false_reject is not None:
            if self.accept is None:
                raise UsageError("--max-false-reject: is for --accept; name the accepted class")
            if not 0 < self.max_false_reject < 1:
                raise UsageError(
                    f"--max-false-reject {self.max_false_reject:g}: must be above 0 and below 1, "
                    "such as 0.05"
                )


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which files are written.

    Attributes:
        json: the figures.
        page: the figures with plots and pictures, as HTML.
        model: the model with the operating point in its contract, ``.onnx``.
    """

    json: Path | None = None
    page: Path | None = None
    model: Path | None = None

    def check(self, inputs: Sequence[str], asked: Asked) -> None:
        """Raise UsageError for a file that would be written over another, or cannot be meant."""
        check_outputs((self.json, self.page, self.model), inputs)
        if self.model is None:
            return
        if asked.accept is None:
            raise UsageError(f"-o {self.model}: what is stored is an operating point; add --accept")
        if self.model.suffix != ".onnx":
            raise UsageError(f"-o {self.model}: the name of a model must end in .onnx")


def run(
    model: str,
    data: Sequence[str],
    *,
    splits: Sequence[str] = (),
    asked: Asked | None = None,
    outputs: Outputs | None = None,
    device: str = "auto",
    form: str = "table",
) -> None:
    """Judge a model on labelled images; print the figures and write what was asked for.

    Args:
        model: see ``edge_fgr_export.answerers.open_answerer``.
        data: see ``edge_fgr_export.verify_images.gather``; labelled.
        splits: of the data, the only ones to take.
        asked: a two-sided decision or an operating point.
        outputs: files to write.
        device: what runs the model.
        form: ``table`` or ``json``, what is printed.

    Raises:
        EdgeFgrError: see the error tree.
    """
    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    asked, files = asked or Asked(), outputs or Outputs()
    files.check([model, *data], asked)
    side = open_answerer(model, device)
    if files.model and side.model is None:
        raise UsageError(
            f"-o {files.model}: {model} is no .onnx file; an operating point is stored in the "
            "model that edge-fgr export writes for an .onnx target"
        )
    positive = dict.fromkeys(
        place for name in asked.positive for place in classes_named(name, side.labels, "--positive")
    )
    place = None
    if asked.accept is not None:
        place = class_named(asked.accept, side.labels, "--accept")
    pool = gather(data, side.labels, splits, labelled=True)
    given, truth = ask(side, pool.paths), np.array(pool.targets, np.intp)
    made = Evaluation(
        side=side,
        data=data,
        splits=splits,
        pool=pool,
        answers=given,
        figures=figures_of(given.logits, truth, side.labels, side.temperature),
        operating=_operating(side, given, truth, place, asked),
    )
    if positive:
        sides = two_sided(given.logits, truth, [*positive], side.temperature, asked.threshold)
        made = replace(made, sides=sides)
    if form == "json":
        sys.stdout.write(to_line(to_json(made)) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in lines(made))
    sys.stdout.flush()
    _write(made, files)


def _operating(
    side: Answerer,
    given: Answers,
    truth: npt.NDArray[np.intp],
    place: int | None,
    asked: Asked,
) -> Judged | None:
    """Choose the operating point that is asked for, or judge the one that the model has."""
    values = probabilities(given.logits, side.temperature)
    if place is not None:
        share = _SHARE if asked.max_false_reject is None else asked.max_false_reject
        return choose(values[:, place], given.unknown, truth, side.labels, place, share)
    point = side.contract.operating if side.contract else None
    if point is None:
        return None
    own = side.labels.index(point.label)
    if not (truth == own).any():
        say(f"{'/'.join(point.label)}: no image of the class that the model accepts; not judged")
        return None
    return judge(point, values[:, own], given.unknown, truth, own)


def _write(made: Evaluation, files: Outputs) -> None:
    if files.json:
        # ASCII only: file names that are not valid UTF-8 survive as escapes.
        atomic_write(files.json, json.dumps(to_json(made), indent=1) + "\n")
    if files.page:
        from edge_fgr_export.evaluate_page import write_page

        write_page(files.page, made)
    model, judged = made.side.model, made.operating
    if files.model and model and judged:
        contract = replace(model.contract, operating=judged.point)
        atomic_write(files.model, restamp(model.path, contract))
        say(f"evaluate: wrote {files.model}; edge-fgr classify --gate obeys it")
