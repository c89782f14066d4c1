"""``edge-fgr verify``: reached by name from the command line of the runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_fgr.errors import EdgeFgrError, UsageError
from edge_fgr.files import atomic_write, check_outputs
from edge_fgr.records import to_line
from edge_fgr_export.answerers import aligned, answers, open_answerer
from edge_fgr_export.golden import About, digest_of_file, write_golden
from edge_fgr_export.verify import UNKNOWN, Limits, verdict_of
from edge_fgr_export.verify_findings import Comparison, lines, to_json
from edge_fgr_export.verify_images import gather

__all__ = ["Outputs", "run"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which files are written.

    Attributes:
        json: the figures.
        page: the flipped images, as HTML.
        golden: the candidate's logits, ``.npz``.
    """

    json: Path | None = None
    page: Path | None = None
    golden: Path | None = None

    def check(self, inputs: Sequence[str]) -> None:
        """Raise UsageError if a file would be written over an input or another output."""
        check_outputs((self.json, self.page, self.golden), inputs)
        if self.golden and self.golden.suffix != ".npz":
            raise UsageError(f"{self.golden}: the name of golden logits must end in .npz")


def run(
    reference: str,
    candidate: str,
    images: Sequence[str],
    *,
    limits: tuple[float | None, float | None] = (None, None),
    devices: tuple[str, str] = ("auto", "auto"),
    splits: Sequence[str] = (),
    outputs: tuple[Path | None, Path | None, Path | None] = (None, None, None),
    form: str = "table",
) -> None:
    """Compare two answerers on image files; print the figures and write what was asked for.

    Args:
        reference: see ``edge_fgr_export.answerers.open_answerer``.
        candidate: the same, judged by the reference.
        images: see ``edge_fgr_export.verify_images.gather``.
        limits: least agreement in percent and largest drop of top-1 in points.
        devices: of the reference and the candidate.
        splits: of labelled data, the only ones to take.
        outputs: files for JSON, page and golden logits.
        form: ``table`` or ``json``, what is printed.

    Raises:
        EdgeFgrError: itself (exit code 1) when a limit is broken, after everything was written;
            else see the error tree.
    """
    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    asked, files = Limits(*limits), Outputs(*outputs)
    files.check([reference, candidate, *images])
    first = open_answerer(reference, devices[0])
    second = open_answerer(candidate, devices[1])
    order = aligned(first, second)
    pool = gather(images, first.labels, splits)
    asked.check(sum(target != UNKNOWN for target in pool.targets))
    expected, given = answers((first, second), pool.paths)
    verdict = verdict_of(expected, given[:, order], pool.targets)
    made = Comparison(
        reference=first,
        candidate=second,
        pool=pool,
        logits=(expected, given[:, order]),
        verdict=verdict,
        limits=asked,
        broken=asked.broken(verdict),
    )
    if form == "json":
        sys.stdout.write(to_line(to_json(made)) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in lines(made))
    sys.stdout.flush()
    _write(made, files)
    if made.broken:
        raise EdgeFgrError(f"{candidate} against {reference}: {'; '.join(made.broken)}")


def _write(made: Comparison, files: Outputs) -> None:
    if files.json:
        # ASCII only: file names that are not valid UTF-8 survive as escapes.
        atomic_write(files.json, json.dumps(to_json(made), indent=1) + "\n")
    if files.page:
        from edge_fgr_export.verify_page import write_page

        write_page(files.page, made)
    if files.golden:
        side = made.candidate
        about = About(
            side.id.name, side.id.version, side.id.digest, side.target, side.device,
            side.temperature,
        )  # fmt: skip
        digests = [digest_of_file(path) for path in made.pool.paths]
        labels, pool = made.reference.labels, made.pool
        write_golden(files.golden, about, labels, pool.names, digests, made.logits[1])
