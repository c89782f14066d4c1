"""Which packages brought onnxruntime: two that write into one folder overwrite each other.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Wheel", "wheels"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """An installed package of the onnxruntime family.

    Attributes:
        name: as pip knows it.
        version: its release.
        brings: whether it writes into the folder ``onnxruntime``; extensions do not.
    """

    name: str
    version: str
    brings: bool


def wheels(path: Sequence[str] | None = None) -> tuple[Wheel, ...]:
    """Return the packages whose names begin with onnxruntime, in order.

    Args:
        path: folders to look in; None: those that Python imports from.
    """
    from importlib.metadata import distributions

    found: dict[str, Wheel] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        name = str(each.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith("onnxruntime") and name not in found:  # the first is imported
            files = each.files
            # Without a list of files, what is not known to be something else counts.
            brings = (
                any(file.parts[0] == "onnxruntime" for file in files)
                if files
                else not name.startswith(("onnxruntime-ep-", "onnxruntime-extensions"))
            )
            found[name] = Wheel(name, each.version, brings)
    return tuple(found[name] for name in sorted(found))
