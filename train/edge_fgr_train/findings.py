"""The findings of a check, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from edge_fgr.contract import Label
from edge_fgr_train.check import Findings, Part, Twins
from edge_fgr_train.dataset import Sample, printable

__all__ = ["leaks", "lines", "to_json"]

_SHOWN = 20
"""Entries of a list that people see; programs see all."""

_Item = TypeVar("_Item")


def to_json(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON-ready values; ``schema_version`` 1."""

    def twins(found: Sequence[Twins]) -> list[dict[str, Any]]:
        return [
            {"files": [_entry(t.first), _entry(t.second)], "identical": t.identical} for t in found
        ]

    return {
        "schema_version": 1,
        "data": findings.origin,
        "splits": [
            {
                "split": part.split,
                "images": sum(part.counts.values()),
                "classes": [{"label": list(k), "images": n} for k, n in part.counts.items()],
                "largest": list(part.largest[0]),
                "smallest": list(part.smallest[0]),
                "imbalance": round(part.largest[1] / part.smallest[1], 4),
                "evenness": round(part.evenness, 4),
                "single_image_classes": list(map(list, part.of_size(1))),
            }
            for part in findings.parts
        ],
        "untrained_classes": list(map(list, findings.untrained)),
        "problems": list(findings.problems),
        "unreadable": [
            {"file": u.sample.name, "kind": u.kind, "message": u.reason}
            for u in findings.unreadable
        ],
        "conflicts": twins(findings.conflicts),
        "leaks": twins(findings.leaks),
        "near_duplicates": [
            {"split": group[0].split, "files": [sample.name for sample in group]}
            for group in findings.groups
        ],
    }


def _entry(sample: Sample) -> dict[str, Any]:
    return {"file": sample.name, "label": list(sample.label), "split": sample.split}


def lines(findings: Findings) -> list[str]:
    """Return the findings for people: a table of the classes, then what is wrong, if anything."""
    parts = findings.parts
    heads = ["class", *(part.split or "images" for part in parts)]
    rows = [
        [_path(label), *(str(part.counts[label]) for part in parts)] for label in parts[0].counts
    ]
    rows.append([f"{len(rows)} classes", *(str(sum(part.counts.values())) for part in parts)])
    return [
        *_table([[printable(head) for head in heads], *rows]),
        "",
        *map(_balance, parts),
        *_listed("classes with one image", _singles(parts), str),
        *_listed("classes that the first split lacks", findings.untrained, _path),
        *_listed("problems", findings.problems, printable),
        *_listed("unreadable files", findings.unreadable, lambda u: printable(u.reason)),
        *_listed("near-duplicates with different labels", findings.conflicts, _conflict),
        *_listed("groups of near-duplicates inside a split", findings.groups, _group),
        f"near-duplicates across splits: {len(findings.leaks)}",
    ]


def leaks(findings: Findings) -> list[str]:
    """Return the images that have a near-duplicate in an earlier split, for people."""
    return list(
        _listed("near-duplicates across splits", findings.leaks, _leak) if findings.leaks else ()
    )


def _leak(twins: Twins) -> str:
    first, second = (
        f"{printable(s.name)} ({printable(s.split)})" for s in (twins.first, twins.second)
    )
    return f"{second} {_like(twins)} {first}"


def _listed(title: str, items: Sequence[_Item], shown: Callable[[_Item], str]) -> Iterator[str]:
    yield f"{title}: {len(items) or 'none'}"
    for item in items[:_SHOWN]:
        yield f"  {shown(item)}"
    if len(items) > _SHOWN:
        yield f"  … and {len(items) - _SHOWN} more; --format json lists all"


def _balance(part: Part) -> str:
    (large, most), (small, least) = part.largest, part.smallest
    return (
        f"{printable(part.split or 'all')}: largest {_path(large)} ({most}), smallest "
        f"{_path(small)} ({least}), ratio {most / least:.1f}, evenness {part.evenness:.3f}"
    )


def _singles(parts: Sequence[Part]) -> list[str]:
    return [
        f"{_path(label)}{f' in {printable(part.split)}' if part.split else ''}"
        for part in parts
        for label in part.of_size(1)
    ]


def _conflict(twins: Twins) -> str:
    first, second = (f"{printable(s.name)} ({_path(s.label)})" for s in (twins.first, twins.second))
    return f"{second} {_like(twins)} {first}"


def _like(twins: Twins) -> str:
    return "has the bytes of" if twins.identical else "looks like"


def _group(group: Sequence[Sample]) -> str:
    more = f" and {len(group) - 3} more" if len(group) > 3 else ""
    return ", ".join(printable(sample.name) for sample in group[:3]) + more


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return ["  ".join([f"{row[0]:{first}}", *map(str.rjust, row[1:], others)]) for row in rows]


def _path(label: Label) -> str:
    return printable(" > ".join(label))
