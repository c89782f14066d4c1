"""The classical chain, measured as a user runs it: whole processes, from a folder of photographs.

python -m edge_fgr_bench.chain time DATA         the whole chain with nothing cached
python -m edge_fgr_bench.chain features DATA     features twice: nothing known, all known
python -m edge_fgr_bench.chain agree RUN DATA    the exported INT8 graph against scikit-learn
python -m edge_fgr_bench.chain folds DATA        grouped 5-fold top-1 and macro recall
python -m edge_fgr_bench.chain mic               MIC of 1280 features x 3000 images x 81 classes
python -m edge_fgr_bench.chain check COUNT...    data check of so many small photos
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_fgr.contract import Geometry
from edge_fgr.model import open_model
from edge_fgr_bench.check_scale import check_scale
from edge_fgr_bench.grouped import folds_of, macro_interval, macro_recall
from edge_fgr_bench.mic_speed import mic_speed
from edge_fgr_bench.told import parser_of
from edge_fgr_export.command import fp32_path
from edge_fgr_export.parity import answers_of
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.chain import decisions, fit_chain
from edge_fgr_train.checkpoint import Run, load_head
from edge_fgr_train.dataset import labels_of, targets_of
from edge_fgr_train.duplicates import groups_of
from edge_fgr_train.embedder import open_embedder
from edge_fgr_train.evaluate import wilson
from edge_fgr_train.features import embed
from edge_fgr_train.linear import LinearHead
from edge_fgr_train.recipe import Chain

__all__ = ["agreements", "features_twice", "folds", "whole_chain"]


def whole_chain(data: str) -> dict[str, float]:
    """Time ``train --head svm --select mic:256`` and ``export``, each a process, nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        train = _seconds(folder, "train", data, "--head", "svm", "--select", "mic:256", "-o", run)
        export = _seconds(folder, "export", run)
    return {"train_s": train, "export_s": export, "whole_s": train + export}


def features_twice(data: str) -> dict[str, float]:
    """Time ``features`` with an empty cache and again with a full one."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            _seconds(folder, "features", data, "-o", f"{folder}/features.npz") for _ in range(2)
        )
    return {"first_s": first, "second_s": second, "ratio": first / second}


def agreements(run: Path, data: str, split: str) -> dict[str, float]:
    """Compare the exported INT8 graph of a chain with scikit-learn's decisions on ``split``.

    scikit-learn's decisions are those of the run's head, which training compared with them to 1e-4
    and in every label. They are taken of the embedding that the INT8 graph itself gives, and of the
    fp32 backbone's embedding of the same pixels.
    """
    made = Run.read(run)
    weight, bias, contract = load_head(run)
    path = run / f"{made.recipe.name}.onnx"
    found = open_dataset(data, (split,) if split else None)
    truth = np.array(targets_of(found.samples, contract.labels))
    head = LinearHead(weight.astype(np.float64), bias.astype(np.float64), made.recipe.model.l2)
    paths = [sample.path for sample in found.samples]
    answers, figures = truth, {"images": float(len(truth))}
    for name, file in {"int8": path, "fp32": fp32_path(path)}.items():
        if not file.exists():
            continue
        opened = open_model(file, device="cpu")
        logits, embedding = answers_of(opened, paths, contract.geometry)
        if name == "int8":
            answers = logits.argmax(1)
            figures["int8_top1"] = float((answers == truth).mean())
        exact = head(embedding.astype(np.float64)).argmax(1)
        figures[f"sklearn_on_{name}_top1"] = float((exact == truth).mean())
        figures[f"int8_agrees_with_sklearn_on_{name}"] = float((exact == answers).mean())
    return figures


def folds(
    data: str, rules: Chain, geometry: Geometry | None = None, count: int = 5
) -> dict[str, float]:
    """Cross-validate a chain on frozen EfficientNet-Lite0 over all images, groups kept together.

    Intervals at 95 %: Wilson's for top-1; for macro recall 2000 bootstrap draws of groups.
    """
    dataset = open_dataset(data)
    truth = np.array(targets_of(dataset.samples, labels_of(dataset.samples)))
    groups = np.array(groups_of(dataset.samples))
    rows = embed(open_embedder("efficientnet_lite0", geometry=geometry), dataset.samples)
    answers = np.full(len(truth), -1)
    for inside, outside in folds_of(truth, groups, count):
        fitted = fit_chain(rows[inside], truth[inside].tolist(), groups[inside].tolist(), rules)
        answers[outside] = decisions(fitted.pipeline, rows[outside]).argmax(1)
    hits = int((answers == truth).sum())
    low, high = wilson(hits, len(truth))
    least, most = macro_interval(truth, answers, groups)
    return {
        "images": float(len(truth)),
        "groups": float(len(set(groups.tolist()))),
        "top1": hits / len(truth),
        "top1_low": low,
        "top1_high": high,
        "macro_recall": macro_recall(truth, answers),
        "macro_recall_low": least,
        "macro_recall_high": most,
    }


def _seconds(cache: str, *arguments: str) -> float:
    command = [sys.executable, "-m", "edge_fgr", *arguments]
    start = time.perf_counter()
    subprocess.run(
        command, env={**os.environ, "EDGE_FGR_CACHE": f"{cache}/cache"}, check=True,
        capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - start


def main() -> None:
    """Run one measurement and print it as a table."""
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=["time", "features", "agree", "folds", "mic", "check"])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--split", default="test")
    parser.add_argument("--head", default="svm", choices=["svm", "logreg", "cosine"])
    parser.add_argument("--select", default="none")
    parser.add_argument("--scale", default="auto", choices=["auto", "each", "all"])
    parser.add_argument("--whole", action="store_true", help="no cut of the shorter side")
    options = parser.parse_args()
    *run, data = options.paths or [""]
    figures: Mapping[str, float]
    if options.what == "mic":
        figures = mic_speed()
    elif options.what == "check":
        figures = check_scale([int(count) for count in options.paths])
    elif options.what == "time":
        figures = whole_chain(data)
    elif options.what == "features":
        figures = features_twice(data)
    elif options.what == "agree":
        figures = agreements(Path(run[0]), data, options.split)
    else:
        geometry = Geometry(size=224) if options.whole else None
        figures = folds(data, Chain(options.head, options.select, options.scale), geometry)
    for name, value in figures.items():
        print(f"{name:36} {value:.4f}")


if __name__ == "__main__":
    main()
