"""INT8 against fp32, pooled over several models and data sets, on image files.

python -m edge_fgr_bench.pooled --pair FP32 INT8 DATA --pair … [--split val --split test]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from scipy.stats import binomtest

from edge_fgr.model import open_model
from edge_fgr_export.parity import logits_of
from edge_fgr_export.verify import Verdict, verdict_of
from edge_fgr_train.catalog import open_dataset
from edge_fgr_train.dataset import targets_of
from edge_fgr_train.evaluate import wilson

__all__ = ["main", "pooled"]


def _judge(fp32: str, int8: str, data: str, splits: list[str]) -> Verdict:
    """Compare two models on the splits of a labelled data set."""
    reference, candidate = (open_model(Path(path), device="cpu") for path in (fp32, int8))
    samples = open_dataset(data, splits).samples
    paths = [sample.path for sample in samples]
    first, second = (
        logits_of(model, paths, model.contract.geometry) for model in (reference, candidate)
    )
    return verdict_of(first, second, targets_of(samples, reference.contract.labels))


def pooled(verdicts: list[Verdict]) -> dict[str, float | list[float]]:
    """Return figures over all images together; shares are 0 to 1, the drop in points."""
    images = sum(v.images for v in verdicts)
    same = sum(v.same for v in verdicts)
    right = [sum(v.reference_right for v in verdicts), sum(v.candidate_right for v in verdicts)]
    lost, won = sum(v.lost for v in verdicts), sum(v.won for v in verdicts)
    return {
        "images": images,
        "agreement": same / images,
        "interval": list(wilson(same, images)),
        "fp32_top1": right[0] / images,
        "int8_top1": right[1] / images,
        "drop": 100 * (right[0] - right[1]) / images,
        "lost": lost,
        "won": won,
        "p": float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run for the command line: a line for each pair, one for all, then JSON."""
    parser = argparse.ArgumentParser(prog="python -m edge_fgr_bench.pooled", description=__doc__)
    parser.add_argument("--pair", nargs=3, action="append", required=True,
                        metavar=("FP32", "INT8", "DATA"))  # fmt: skip
    parser.add_argument("--split", action="append", default=[], help="default: val and test")
    chosen = parser.parse_args(arguments)
    splits = chosen.split or ["val", "test"]
    verdicts: dict[str, list[Verdict]] = {}
    for fp32, int8, data in chosen.pair:
        for split in splits:
            verdicts[f"{Path(data).name}/{split}"] = [_judge(fp32, int8, data, [split])]
    verdicts["all"] = [verdict for found in verdicts.values() for verdict in found]
    rows = {name: pooled(found) for name, found in verdicts.items()}
    for name, row in rows.items():
        print(
            f"{name:16} {row['images']:5} images: labels agree {row['agreement']:.2%}, fp32 "
            f"{row['fp32_top1']:.2%}, INT8 {row['int8_top1']:.2%}, drop {row['drop']:+.2f} points "
            f"(lost {row['lost']}, won {row['won']}, McNemar p {row['p']:.2g})"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
