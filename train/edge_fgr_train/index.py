"""A data set as one CSV file: which image, which class, which split.

    path,label,split                          path,level_1,level_2,split
    photos/1.jpg,F/A-18,train                 1.jpg,Fruit,Apple,train

UTF-8 with a header. ``path`` is relative to the file's own folder, or absolute. ``label`` is a
whole name, in which ``/`` means nothing; a class of several levels has ``level_1``, ``level_2`` …
instead, coarse to fine, empty after its last. ``split`` may be missing.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_fgr.contract import Label
from edge_fgr.errors import EdgeFgrError, InputMissingError, PermissionDeniedError, UsageError
from edge_fgr.files import atomic_path
from edge_fgr_train.dataset import Sample

__all__ = ["read_index", "write_index"]


def read_index(path: Path) -> list[Sample | EdgeFgrError]:
    """List the images of an index in the order of its rows, an error in the place of a bad row.

    Args:
        path: absolute path of the index.

    Raises:
        InputMissingError, PermissionDeniedError: there is no such file, or it may not be read.
        UsageError: it is no UTF-8 CSV, or its columns are not those above.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            columns = _columns(path, next(table, []))
            rows = [(i, row) for i, row in enumerate(table, 2) if row]
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except OSError:
        raise InputMissingError(f"{path}: no such index; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: no UTF-8 CSV ({error}); save it as one") from None
    split = columns.get("split")
    parted = split is not None and any(row[split] for _, row in rows if len(row) > split)
    return [_sample(path, i, row, columns, parted) for i, row in rows]


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Return the place of each column."""
    levels = [name for name in header if re.fullmatch(r"level_[1-9][0-9]*", name)]
    wanted = {f"level_{i + 1}" for i in range(len(levels))}
    for name in header:
        if name not in ("path", "label", "split", *levels):
            raise UsageError(
                f"{path}: unknown column {name!r}; known: path, label or level_1, level_2 …, split"
            )
    if "path" not in header or ("label" in header) == bool(levels):
        raise UsageError(f"{path}: needs the columns path, and either label or level_1, level_2 …")
    if len(set(header)) != len(header) or set(levels) != wanted:
        raise UsageError(f"{path}: every column once, level_1 to level_{len(levels)} are needed")
    return {name: place for place, name in enumerate(header)}


def _sample(
    path: Path, number: int, row: list[str], columns: dict[str, int], parted: bool
) -> Sample | EdgeFgrError:
    """Read a row; ``number`` counts rows as a spreadsheet does, the header being 1."""
    where = f"{path}: row {number}"
    if len(row) != len(columns):
        return UsageError(f"{where}: {len(row)} cells, but {len(columns)} columns")
    cells = {name: row[place] for name, place in columns.items()}
    for name in ("path", *(["split"] if parted else [])):
        if not cells[name]:
            return UsageError(f"{where}: {name} is empty; fill it in")
    label = _label(cells)
    if not label or not all(label):
        return UsageError(f"{where}: a label or a level of it is empty; fill it in")
    full = Path(os.path.normpath(path.parent / cells["path"]))
    if not os.path.isfile(full):  # noqa: PTH113  never raises
        return InputMissingError(f"{where}: {full}: no such file; correct or remove the row")
    return Sample(_within(path.parent, full), full, label, cells.get("split", ""))


def _label(cells: dict[str, str]) -> Label:
    if "label" in cells:
        return (cells["label"],)
    levels = [cells[f"level_{i + 1}"] for i in range(sum(n.startswith("level_") for n in cells))]
    while levels and not levels[-1]:
        levels.pop()
    return tuple(levels)


def write_index(path: Path, samples: Sequence[Sample]) -> None:
    """Write an index, whole or not at all, that ``read_index`` reads back.

    Raises:
        OutputError: it cannot be written.
        UsageError: a name is not UTF-8.
    """
    rows = list(_rows(Path(os.path.abspath(path)).parent, samples))  # noqa: PTH100
    # Before 3.13 the csv module leaves a carriage return unquoted when lines end otherwise.
    odd = any("\r" in cell for row in rows for cell in row)
    try:
        with atomic_path(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(
                file, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL
            ).writerows(rows)
    except UnicodeEncodeError:
        raise UsageError(f"{path}: a name is not UTF-8; rename that file or folder") from None


def _rows(folder: Path, samples: Sequence[Sample]) -> Iterator[list[str]]:
    depth = max((len(sample.label) for sample in samples), default=1)
    names = ["label"] if depth == 1 else [f"level_{i + 1}" for i in range(depth)]
    parted = any(sample.split for sample in samples)
    yield ["path", *names, *(["split"] if parted else [])]
    for sample in samples:
        full = Path(os.path.abspath(sample.path))  # noqa: PTH100
        rest = [""] * (depth - len(sample.label))
        split = [sample.split] if parted else []
        yield [_within(folder, full), *sample.label, *rest, *split]


def _within(folder: Path, path: Path) -> str:
    """Return the path relative to the folder, or as it is where it lies elsewhere; with ``/``."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
