"""Classes by the names that people type: a whole path, the beginning of one, or its last name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from edge_fgr.contract import Label
from edge_fgr.errors import UsageError
from edge_fgr_train.dataset import printable

__all__ = ["class_named", "classes_named"]


def classes_named(text: str, labels: Sequence[Label], option: str) -> list[int]:
    """Return the places of the classes that a name means, at least one, in order.

    ``Fruit/Apple/Gala`` is one class, ``Fruit/Apple`` all below it, and ``Gala`` the class of that
    last name where only one has it.

    Args:
        text: the name.
        labels: classes of the model.
        option: for messages, such as ``--positive``.

    Raises:
        UsageError: there is no such class, or several have this last name.
    """
    paths = ["/".join(label) for label in labels]
    if text in paths:
        return [paths.index(text)]
    below = [i for i, path in enumerate(paths) if path.startswith(f"{text}/")]
    if text and below:
        return below
    leaves = [i for i, label in enumerate(labels) if label[-1] == text]
    if len(leaves) > 1:
        both = " and ".join(printable(paths[i]) for i in leaves[:2])
        raise UsageError(f"{option} {printable(text)}: may be {both}; give the whole path")
    if leaves:
        return leaves
    known = {path.lower(): path for path in paths}
    known |= {label[-1].lower(): path for label, path in zip(labels, paths, strict=True)}
    near = get_close_matches(text.lower(), known, n=3, cutoff=0.5)
    names = dict.fromkeys(known[name] for name in near) or dict.fromkeys(paths[:3])
    words = "near" if near else "known, among others"
    listed = ", ".join(map(printable, names))
    raise UsageError(
        f"{option} {printable(text)}: is no class of the model; {words}: {listed} "
        "(edge-fgr inspect --format json lists all)"
    )


def class_named(text: str, labels: Sequence[Label], option: str) -> int:
    """Return the place of the one class that a name means.

    Raises:
        UsageError: as ``classes_named``; or it means several.
    """
    found = classes_named(text, labels, option)
    if len(found) > 1:
        first = printable("/".join(labels[found[0]]))
        raise UsageError(
            f"{option} {printable(text)}: is {len(found)} classes, first {first}; name one of them"
        )
    return found[0]
