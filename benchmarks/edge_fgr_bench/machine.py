"""What the machine is and does: its name, clock, load and energy. What cannot be read is None.

Standard library and the runtime; Linux tells most, other systems less.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from edge_fgr import __version__, cpu
from edge_fgr.limits import limits
from edge_fgr_bench.document import Host

__all__ = ["clock_mhz", "host", "joules_between", "load", "peak_kib", "pin", "rapl", "resident_kib"]

_PACKAGES = ("numpy", "pillow", "torch")
_CPUINFO = Path("/proc/cpuinfo")
_CPUS = Path("/sys/devices/system/cpu")
_POWERCAP = Path("/sys/class/powercap")

Meter = dict[str, tuple[int, int]]


def host() -> Host:
    """Return what this machine is."""
    return Host(
        cpu=cpu.model_name(),
        machine=platform.machine(),
        features=tuple(name for name, there in cpu.abilities().items() if there),
        processors=limits().usable,
        memory_mib=_memory_mib(),
        system=f"{platform.system()} {platform.release()}",
        governor=_text(_CPUS / "cpu0" / "cpufreq" / "scaling_governor"),
        versions=_versions(),
    )


def load() -> float | None:
    """Return the system's load average of the last minute."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def clock_mhz(processor: int, cpuinfo: Path = _CPUINFO, cpus: Path = _CPUS) -> float | None:
    """Return the clock of a processor; virtual machines often show a constant."""
    khz = _text(cpus / f"cpu{processor}" / "cpufreq" / "scaling_cur_freq")
    if khz is not None and khz.isdigit():
        return int(khz) / 1000
    number = -1
    for line in (_text(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "processor":
            number = int(value)
        elif key.strip() == "cpu MHz" and number == processor:
            return float(value)
    return None


def pin(processors: Iterable[int]) -> tuple[int, ...]:
    """Bind this process to processors; return those it is bound to, none where that cannot be."""
    try:
        os.sched_setaffinity(0, processors)
        return tuple(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return ()


def peak_kib() -> int:
    """Return the most memory that this process had resident, in KiB."""
    kib = _status("VmHWM")
    if kib is not None:  # unlike rusage, not inherited from the process that forked this one
        return kib
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def resident_kib() -> int | None:
    """Return the memory that this process has resident now, in KiB."""
    return _status("VmRSS")


def rapl(folder: Path = _POWERCAP) -> Meter | None:
    """Return microjoules counted so far and the count's range, for each package of processors.

    Intel's Running Average Power Limit as Linux shows it (Documentation/power/powercap); AMD's
    processors have it, too. As a rule only root may read it, and virtual machines have none.
    """
    found: Meter = {}
    for zone in sorted(folder.glob("intel-rapl:*")):
        name = _text(zone / "name") or ""
        if not name.startswith("package"):
            continue
        used, most = _text(zone / "energy_uj"), _text(zone / "max_energy_range_uj")
        if used and most and used.isdigit() and most.isdigit():
            found[zone.name] = (int(used), int(most))
    return found or None


def joules_between(before: Meter | None, after: Meter | None) -> float | None:
    """Return the joules between two readings; a counter that ran over has run over once."""
    if not before or not after or before.keys() != after.keys():
        return None
    used = 0
    for zone, (start, most) in before.items():
        end = after[zone][0]
        used += end - start if end >= start else end + most - start
    return used / 1e6


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    import onnxruntime as ort  # what runs: two of its packages may claim to be installed

    found = {
        "edge-fgr": __version__,
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _status(key: str) -> int | None:
    for line in (_text(Path("/proc/self/status")) or "").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
