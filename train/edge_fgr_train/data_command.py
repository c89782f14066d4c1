"""``edge-fgr data check`` and ``edge-fgr data split``: reached by name from the command line."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from edge_fgr.errors import DataError, UsageError
from edge_fgr.progress import say
from edge_fgr.records import to_line
from edge_fgr_train.catalog import open_dataset, survey_dataset, write_index
from edge_fgr_train.check import check
from edge_fgr_train.dataset import labels_of, printable, targets_of
from edge_fgr_train.findings import leaks, lines, to_json
from edge_fgr_train.fingerprint import prints_of
from edge_fgr_train.links import link
from edge_fgr_train.split import split

__all__ = ["run_check", "run_split"]


def run_check(spec: str, form: str, strict: bool) -> None:
    """Print what is wrong with a data set, as ``table`` or ``json``; leaks also on stderr.

    Raises:
        DataError: with ``strict``, there are leaks, conflicting labels, unreadable files or
            things that ``open_dataset`` refuses.
        EdgeFgrError: see ``survey_dataset``.
    """
    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: is none of table, json")
    findings = check(*survey_dataset(spec))
    if form == "json":
        sys.stdout.write(to_line(to_json(findings)) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in lines(findings))
    sys.stdout.flush()
    for line in leaks(findings):
        say(line)
    wrong = {
        "images leak between splits": len(findings.leaks),
        "have conflicting labels": len(findings.conflicts),
        "files cannot be read": len(findings.unreadable),
        "problems": len(findings.problems),
    }
    if strict and any(wrong.values()):
        counts = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
        raise DataError(f"{findings.origin}: {counts}; correct them, or leave out --strict")


def run_split(spec: str, output: Path, shares: str, seed: int) -> None:
    """Divide a data set anew and write the result as a CSV index.

    Args:
        spec: see ``open_dataset``; splits that it has are forgotten.
        output: the index.
        shares: such as ``train=0.7,val=0.15,test=0.15``, the split to train on first.
        seed: of the draw.

    Raises:
        DataError: a file cannot be read.
        UsageError: the shares cannot be meant.
        EdgeFgrError: see ``open_dataset`` and ``write_index``.
    """
    wanted = _shares(shares)
    dataset = open_dataset(spec)
    samples, labels = dataset.samples, labels_of(dataset.samples)
    prints = prints_of(samples)
    for error in prints.failures.values():
        raise DataError(
            f"{dataset.origin}: {len(prints.failures)} of {len(samples)} files cannot be read, "
            f"first {error}; edge-fgr data check lists all"
        )
    links = link(prints, targets_of(samples, labels), [0] * len(samples))
    groups = links.groups.tolist()
    divided = split(samples, groups, wanted, seed)
    write_index(output, divided)
    found = Counter(sample.split for sample in divided)
    kept = sum(size > 1 for size in Counter(groups).values())
    say(
        f"{output}: {', '.join(f'{name} {found[name]}' for name in wanted)} images of "
        f"{len(labels)} classes; {kept} groups of near-duplicates kept together"
    )
    for name in wanted:
        present = {sample.label for sample in divided if sample.split == name}
        if poor := [label for label in labels if label not in present]:
            first = printable(" > ".join(poor[0]))
            say(f"{output}: {name} lacks {len(poor)} classes, first {first}")


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    try:
        for part in text.split(","):
            name, _, share = part.partition("=")
            if not name or name in shares or not float(share) > 0:
                raise ValueError
            shares[name] = float(share)
    except ValueError:
        shares = {}
    if not abs(sum(shares.values()) - 1) <= 1e-6:
        raise UsageError(
            f"--shares {text}: split=share, each above 0 and all together 1, is needed, "
            "such as train=0.7,val=0.15,test=0.15"
        )
    return shares
