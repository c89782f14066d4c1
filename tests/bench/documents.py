"""Documents of a run as it could have been, made without measuring anything."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np

from edge_fgr.contract import Geometry
from edge_fgr.image import load
from edge_fgr_bench.answers import (
    Accuracy,
    Cell,
    Flip,
    Judged,
    Pair,
    Robustness,
    Same,
    Share,
    Worst,
)
from edge_fgr_bench.document import KIND, SCHEMA, Candidate, Document, Host, Images, Settings
from edge_fgr_bench.samples import Block, Latency
from edge_fgr_bench.summary import wilson
from edge_fgr_train.pages import data_uri

CORRUPTIONS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "light": ("brightness", "contrast", "gamma", "white_balance"),
    "camera": ("fog", "frost", "spatter", "saturation", "vignette"),
    "digital": ("jpeg", "pixelate", "rotation"),
}
GROUPS = {name: group for group, names in CORRUPTIONS.items() for name in names}

SEEN = 25
"""Images of each corruption and severity."""

SPEEDS = {
    ("lite0", "fp32"): (5.6, 0.902), ("lite0", "int8"): (3.0, 0.897),
    ("mobile", "fp32"): (4.4, 0.871), ("mobile", "int8"): (4.5, 0.846),
}  # fmt: skip
"""Milliseconds of inference and top-1, of names and targets."""


def document(photos: Sequence[Path], seed: int = 0, slow: float = 1.0) -> Document:
    """Return a finished run: two models, each as fp32 and as INT8, on all photos.

    Args:
        photos: named after their classes.
        seed: of whatever is random.
        slow: factor of all times.
    """
    rng = np.random.default_rng(seed)
    truths = [tuple(photo.stem.split("_")[:-1]) for photo in photos]
    labels = tuple(sorted(set(truths)))
    candidates = tuple(
        Candidate(
            key=string.ascii_uppercase[i], file=f"models/{name}-{target}.onnx", name=name,
            version=3, digest=f"{i + 1:02x}" * 32, target=target,
            bytes=13_400_000 if target == "fp32" else 3_700_000, size=224, labels=labels,
            asked="cpu", device="cpu", provider="CPUExecutionProvider", share=1.0,
        )
        for i, (name, target) in enumerate(SPEEDS)
    )  # fmt: skip
    speeds = list(SPEEDS.values())
    latency = tuple(
        _latency(rng, c.key, ms * slow) for c, (ms, _) in zip(candidates, speeds, strict=True)
    )
    accuracy = _accuracy(photos, truths, labels, [top1 for _, top1 in speeds])
    return Document(
        schema_version=SCHEMA, kind=KIND, complete=True, made="2026-03-14T09:26:53Z",
        seconds=412.5, title="Grocery shelf, release 3",
        host=Host(
            cpu="Cortex-A76", machine="aarch64", features=("asimd", "dotprod", "fp16"),
            processors=4, memory_mib=7_900, system="Linux 6.6.31", governor="performance",
            versions={"python": "3.11.2", "edge-fgr": "0.1.0", "onnxruntime": "1.24.4",
                      "numpy": "2.2.1", "pillow": "11.1.0"},
        ),
        settings=Settings(
            parts=("latency", "accuracy", "robustness"), threads=1, queries=300, seconds=5.0,
            cold_runs=5, corruption_images=SEEN, seed=0, splits=("val",),
        ),
        images=Images("photos/val", len(photos), len(photos), "5e" * 32, ()),
        candidates=candidates, latency=latency, accuracy=accuracy,
        robustness=_robustness(rng, [c.key for c in candidates], [top1 for _, top1 in speeds]),
    )  # fmt: skip


def without(made: Document, *parts: str) -> Document:
    """Return a run that lacks some of its parts."""
    empty = {"latency": (), "accuracy": None, "robustness": None}
    return replace(made, **{part: empty[part] for part in parts})


def _latency(rng: np.random.Generator, key: str, ms: float) -> Latency:
    turns, each = 12, 30
    means = {"decode": 2.1, "preprocess": 0.45, "inference": ms, "decide": 0.08}
    drift = np.repeat(1 + 0.03 * rng.standard_normal(turns), each)
    us = {
        name: (1000 * mean * drift * (1 + 0.06 * rng.gamma(1.0, 1.0, turns * each))).astype(int)
        for name, mean in means.items()
    }
    us["whole"] = sum(us.values()) + 12
    blocks = tuple(
        Block(
            each, float(part.sum()) / 1e6, 101.5 + float(rng.random()), 0.995, int(i % 3), 0.4,
            2395.0 + i, 0.006 * ms * each,
        )
        for i, part in enumerate(us["whole"].reshape(turns, each))
    )  # fmt: skip
    cold = 165 + 3 * rng.standard_normal(5)
    return Latency(
        key=key,
        cold_ms=tuple(cold.tolist()),
        cold_kib=(77_000, 77_300, 76_900, 77_100, 77_050),
        load_ms=(11.2, 10.9, 11.4),
        us={name: tuple(values.tolist()) for name, values in us.items()},
        blocks=blocks,
        pinned=(2,),
        workers=4,
        images_per_s=tuple((3600 / (ms + 2.6) + 4 * rng.standard_normal(3)).tolist()),
        peak_kib=int(81_000 + 1000 * ms),
        overhead_us=0.4,
    )


def _accuracy(
    photos: Sequence[Path],
    truths: Sequence[tuple[str, ...]],
    labels: Sequence[tuple[str, ...]],
    shares: Sequence[float],
) -> Accuracy:
    right = np.array([labels.index(truth) for truth in truths])
    answers = []
    for i, share in enumerate(shares):
        best, wrong = right.copy(), round((1 - share) * len(right) * 1.5)
        best[(np.arange(wrong) * 5 + 3 * i) % len(right)] += 1
        answers.append(best % len(labels))
    judged = []
    for i, best in enumerate(answers):
        hits = int((best == right).sum())
        top1 = wilson(hits, len(right))
        judged.append(Judged(
            key=string.ascii_uppercase[i], images=len(right), left_out=0, top1=top1,
            top5=wilson(len(right) - 1, len(right)), macro=top1,
            coarse=wilson(len(right) - 2, len(right)), ece=Share(0.041, 0.022, 0.068),
            worst=Worst(labels[i], wilson(1, 2), 2), unknown=wilson(i, len(right)),
            best=tuple(best.tolist()), probability=(0.8,) * len(right), strange=tuple(range(i)),
        ))  # fmt: skip
    pairs = [
        _pair(photos, labels, right, a, b, answers[a], answers[b])
        for a in range(len(answers)) for b in range(a + 1, len(answers))
    ]  # fmt: skip
    return Accuracy(tuple(p.name for p in photos), tuple(truths), tuple(judged), tuple(pairs))


def _pair(photos, labels, right, a, b, one, other) -> Pair:
    lost = int(((one == right) & (other != right)).sum())
    won = int(((one != right) & (other == right)).sum())
    differ, few = lost + won, min(lost, won)
    p = min(1.0, 2 * sum(comb(differ, k) for k in range(few + 1)) / 2**differ) if differ else 1.0
    geometry = Geometry(size=96)
    flips = tuple(
        Flip(
            image=i, a=labels[one[i]], b=labels[other[i]], a_probability=0.71, b_probability=0.58,
            outcome=_outcome(one[i] == right[i], other[i] == right[i]),
            picture=data_uri(load(photos[i], geometry), 96),
        )
        for i in np.flatnonzero(one != other).tolist()
    )  # fmt: skip
    drop = (lost - won) / len(right)
    return Pair(
        string.ascii_uppercase[a], string.ascii_uppercase[b], len(right),
        wilson(int((one == other).sum()), len(right)), len(right), lost, won, p,
        Share(drop, drop - 0.08, drop + 0.08), 1.37, flips,
    )  # fmt: skip


def _outcome(before, after):
    return "lost" if before else "won" if after else "both wrong"


def _robustness(rng: np.random.Generator, keys: Sequence[str], top1: Sequence[float]) -> Robustness:
    cells, same = [], []
    for name in GROUPS:
        hard = 0.02 + 0.11 * rng.random()
        for severity in range(6):
            for key, share in zip(keys, top1, strict=True):
                right = round(SEEN * max(0.05, share - hard * severity))
                cells.append(Cell(key, name, severity, SEEN, right, round(9 * hard * severity)))
            for a, b in (keys[:2], keys[2:]):
                same.append(Same(a, b, name, severity, SEEN, SEEN - severity // 2))
    return Robustness(SEEN, dict(GROUPS), tuple(cells), tuple(same))
