"""``edge-fgr classify``: what it does once its arguments are known."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from edge_fgr.ahead import Ahead
from edge_fgr.errors import EdgeFgrError, ImageError, UsageError
from edge_fgr.options import FORMATS
from edge_fgr.progress import one_line, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    from edge_fgr.classifier import Classifier
    from edge_fgr.sessions import Opened

__all__ = ["classify"]


def classify(
    *,
    inputs: list[str],
    model: str | None,
    top_k: int | None,
    device: str,
    device_option: list[str],
    form: str,
    recursive: bool,
    threads: int | None,
    roi: str | None,
    resume: Path | None,
    cache: bool,
    coverage: float | None,
    gallery: Path | None,
    gate: bool,
    explain: Path | None,
) -> None:
    """Classify images: a label from coarse to fine, with its probability.

    Arguments are as ``edge_fgr.options.CLASSIFY`` describes them.

    Raises:
        EdgeFgrError: of the one image; or an ``ImageError`` where some of many failed; or, with
            ``gate``, itself where all went well and some were not accepted.
    """
    from edge_fgr.memory import one_arena, spare_memory
    from edge_fgr.sessions import import_runtime, open_session
    from edge_fgr.sources import expand

    if form not in FORMATS:
        raise UsageError(f"--format {form}: is none of {', '.join(FORMATS)}")
    region = _roi(roi)
    files = expand(inputs, recursive=recursive)
    alone = len(files) == 1 and not isinstance(files[0], EdgeFgrError)
    if len(files) == 1 and isinstance(files[0], EdgeFgrError):
        raise files[0]
    if explain is not None:
        _check_folder(explain, inputs)
    options = _pairs(device_option)

    def opened() -> Opened:
        # One image alone: a pool of threads costs more than it saves, unless it was asked for.
        inner = threads or 1 if alone else 1
        return open_session(
            model,
            device=device,  # type: ignore[arg-type]  # any text: it says what is known
            device_options=options,
            threads=inner,
            cache=cache,
            lean=alone,
        )

    spare_memory() if alone else one_arena()
    import_runtime()
    # While onnxruntime opens the model, outside the interpreter's lock, the rest is imported.
    opening = Ahead(opened)
    from edge_fgr.classifier import Classifier
    from edge_fgr.decode import prepare
    from edge_fgr.parallel import cores
    from edge_fgr.pipeline import classify_files
    from edge_fgr.render import writer

    prepare()
    classifier = Classifier.of(opening.result(), coverage=coverage, gallery=gallery)
    if gate and classifier.contract.operating is None:
        raise UsageError(
            f"--gate: {classifier.contract.name} has no operating point; give it one with "
            "edge-fgr evaluate --accept CLASS -o NEW.onnx"
        )
    _warn(classifier)
    if not alone:
        gc.enable()
    ranks = top_k or (1 if form == "table" else 5)
    ranks = min(ranks, len(classifier.contract.labels))
    journal = None
    if resume is not None:
        journal = _journal(resume, classifier, ranks, region, coverage, gallery)
    names = [file for file in files if isinstance(file, str)]
    out = writer(form, sys.stdout, ranks=ranks, names=names)
    failures: list[EdgeFgrError] = []
    refused: list[str] = []
    done = 0
    stopped = [] if alone else _sigterm()
    # A bar and rows on one terminal would overwrite each other.
    show = len(files) > 1 and not sys.stdout.isatty()
    with progress(len(files), "classify", show=show) as advance:
        for record, error in classify_files(
            classifier,
            files,
            top_k=ranks,
            roi=region,
            workers=1 if alone else threads or cores(),
            journal=journal,
            explain=explain,
        ):
            out.add(record)
            if error is not None:
                failures.append(error)
                if not alone:
                    say(f"edge-fgr: {one_line(error)}")
            if gate and record["gate"] and not record["gate"]["accepted"]:
                refused.append(f"{record['file']}: {record['verdict']['reason']}")  # type: ignore[index]
            advance(1, "")
            done += 1
            if stopped:
                break
    out.close()
    sys.stdout.flush()
    if stopped and done < len(files):
        say(f"edge-fgr: stopped after {done} of {len(files)} images; what is written is whole")
        raise SystemExit(128 + stopped[0])
    if failures:
        if alone:
            raise failures[0]
        raise ImageError(
            f"{len(failures)} of {len(files)} images failed; all others are classified"
        )
    if refused:
        raise EdgeFgrError(
            refused[0] if alone else f"{len(refused)} of {len(files)} images are not accepted"
        )


def _sigterm() -> list[int]:
    """Return a list that a SIGTERM is noted in, so that records end whole."""
    import signal

    from edge_fgr.signals import noted

    return noted(signal.SIGTERM)


def _warn(classifier: Classifier) -> None:
    if classifier.contract.target not in ("portable", "fp32") and classifier.device == "cpu":
        from edge_fgr.cpu import suits

        if reason := suits(classifier.contract.target):
            say(f"edge-fgr: warning: {reason}")


def _pairs(texts: list[str]) -> dict[str, str] | None:
    if not texts:
        return None
    from edge_fgr.providers import parse_options

    return parse_options(texts)


def _roi(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    from edge_fgr.contract import check_roi
    from edge_fgr.errors import ContractError

    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
        region = (left, top, right, bottom)
        check_roi(region)
    except (ValueError, ContractError):
        raise UsageError(
            f"--roi {text}: left,top,right,bottom are needed, left < right and top < bottom, "
            "each from 0 to 1"
        ) from None
    return region


def _check_folder(folder: Path, inputs: list[str]) -> None:
    """Refuse a folder whose pictures the next run would take for photos."""
    from pathlib import Path

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--explain {folder}: is a file; give a folder")
    here = folder.resolve()
    for text in inputs:
        place = Path(text)
        if place.is_dir() and (place.resolve() == here or place.resolve() in here.parents):
            raise UsageError(
                f"--explain {folder}: lies inside {text}, and its pictures would be classified "
                "the next time; give a folder elsewhere"
            )


def _journal(
    path: Path, classifier: Classifier, ranks: int, roi: object, coverage: object, gallery: Any
) -> Any:
    from edge_fgr.records import Journal

    options = {"model": classifier.model.digest, "top_k": ranks, "roi": roi}
    enrolled = None
    if gallery is not None:
        from edge_fgr.digests import digest_of

        enrolled = digest_of(gallery, noted=False)
    return Journal(path, options | {"coverage": coverage, "gallery": enrolled})
