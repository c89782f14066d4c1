"""How many processors this process may really use: affinity, and the quota of its control groups.

Linux has two versions of control groups: ``cpu.max`` is of version 2, ``cpu.cfs_quota_us`` of 1
(kernel documentation, admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst). Other systems have no
quota that could be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Limits", "limits", "quota"]

_SELF = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Limits:
    """Processors: of the machine, of this process's affinity, and of its groups' quota.

    Attributes:
        machine: None where the system does not say.
        affinity: None where the system has no such thing.
        quota: processors' worth of time, such as 1.5; None without a limit.
    """

    machine: int | None
    affinity: int | None
    quota: float | None

    @property
    def usable(self) -> int:
        """Threads that make sense: at least 1, and no more than any of the limits."""
        known = [count for count in (self.affinity or self.machine,) if count]
        if self.quota is not None:
            known.append(max(1, int(self.quota + 0.5)))
        return min(known, default=1)


def limits(process: Path = _SELF) -> Limits:
    """Return the limits of this process.

    Args:
        process: its folder in proc.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Limits(os.cpu_count(), affinity, quota(process))


def quota(process: Path = _SELF) -> float | None:
    """Return the least quota of a process's control groups and those above them, in processors.

    Args:
        process: its folder in proc, with ``cgroup`` and ``mountinfo``.
    """
    found = [q for folder in _folders(process) if (q := _of(folder)) is not None]
    return min(found, default=None)


def _folders(process: Path) -> Iterator[Path]:
    """Yield the folders that may limit it, from its own group up to where groups are mounted."""
    try:
        groups = (process / "cgroup").read_text(errors="replace").splitlines()
        mounts = (process / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        own = _group(groups, unified=kind[0] == "cgroup2", controllers=kind[2].split(","))
        if own is None:
            continue
        # proc writes spaces as \040; in a container the group may lie outside of what is mounted.
        root, point = (text.replace("\\040", " ") for text in fields[3:5])
        path = PurePosixPath(own)
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
        for part in (inside, *inside.parents):
            yield Path(point) / part


def _group(lines: list[str], *, unified: bool, controllers: list[str]) -> str | None:
    """Return the group of version 2, or that of version 1's processor controller."""
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (unified and not names) or (
            not unified and "cpu" in controllers and "cpu" in names.split(",")
        ):
            return path
    return None


def _of(folder: Path) -> float | None:
    """Return the quota that one group sets; ``max`` and -1 mean none."""
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        share = int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None
