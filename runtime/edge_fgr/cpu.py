"""Does this processor suit the target that a model was exported for?

The target ``x86-vnni`` keeps all 8 bits of every weight. That is exact where the processor sums
products in 32 bits, as VNNI does; without it x86 sums pairs of them in 16, which saturates. What
cannot be found out is no reason to warn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["abilities", "has_vnni", "model_name", "signature", "suits"]

_VNNI = "x86-vnni"
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_ARM = ("arm", "aarch")

_CPUINFO = Path("/proc/cpuinfo")
_TELLING = {
    *("vendor_id", "cpu family", "model", "flags"),
    *("Features", "CPU implementer", "CPU variant", "CPU part"),
}
"""Lines of it that kernels are chosen by, on x86 and on ARM."""


def suits(target: str, *, machine: str | None = None, cpuinfo: Path = _CPUINFO) -> str | None:
    """Return why models of ``target`` do not belong on this processor; None where nothing says so.

    Args:
        target: of a model's contract.
        machine: kind of processor, as ``uname -m`` gives it; None: this one.
        cpuinfo: what Linux says about it.
    """
    if target != _VNNI:
        return None
    machine = (machine or _machine()).lower()
    if machine.startswith(_ARM):
        return (
            f"the model is for {_VNNI}, and this is an ARM CPU: nobody promises the logits that it "
            "was measured with; deploy the portable model"
        )
    if machine in _X86 and has_vnni(cpuinfo) is False:
        return (
            f"the model is for {_VNNI}, and this CPU has no VNNI: sums saturate, and it can be "
            "wrong more often than it was measured; deploy the portable model"
        )
    return None


def has_vnni(cpuinfo: Path = _CPUINFO) -> bool | None:
    """Return whether this x86 processor sums INT8 products in 32 bits; None where nobody knows.

    Linux tells of both kinds of VNNI, that of AVX-512 and that of AVX. An emulator of one process
    shows the host's file, though: where numpy, which asks the processor itself, finds no AVX-512
    in spite of the file, the file is of another processor.
    """
    asked = _asked_by_numpy()
    flags = _linux(cpuinfo) or _macos()
    if flags is None:
        return True if asked.get("AVX512VNNI") else None
    if "avx512f" in flags and asked.get("AVX512F") is False:
        return False
    return not flags.isdisjoint({"avx512_vnni", "avx512vnni", "avx_vnni"})


def abilities(cpuinfo: Path = _CPUINFO, *, machine: str | None = None) -> dict[str, bool | None]:
    """Return what INT8 kernels are chosen by: AVX2, AVX-512 and VNNI, or NEON, its dot product.

    Args:
        cpuinfo: what Linux says about the processor.
        machine: kind of processor, as ``uname -m`` gives it; None: this one.

    Returns:
        By name; None where nobody knows. Empty for a kind of processor that has none of them.
    """
    kind, asked = (machine or _machine()).lower(), {} if machine else _asked_by_numpy()
    flags = _linux(cpuinfo) or _macos() or set()

    def one(name: str, *spelt: str) -> bool | None:
        if name in asked:  # numpy asks the processor itself
            return asked[name]
        return not flags.isdisjoint(spelt) if flags else None

    if kind in _X86:
        found = {"avx2": one("AVX2", "avx2"), "avx512": one("AVX512F", "avx512f")}
        return found | {"vnni": has_vnni(cpuinfo)}
    if kind.startswith(_ARM):
        found = {"neon": one("NEON", "asimd", "neon"), "dotprod": one("ASIMDDP", "asimddp")}
        return found | {"i8mm": one("I8MM", "i8mm")}
    return {}


def model_name(cpuinfo: Path = _CPUINFO) -> str:
    """Return what this processor, or on small boards the board, calls itself, in one line."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model"):
                    return value.strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def signature(cpuinfo: Path = _CPUINFO) -> str:
    """Return a text that differs where the kernels for this processor may differ."""
    asked = sorted(name for name, found in _asked_by_numpy().items() if found)
    facts = [_machine(), *asked]
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if not key.strip():
                    break  # the first processor is enough
                if key.strip() in _TELLING:
                    facts.append(value.strip())
    except OSError:
        facts += sorted(_macos() or ())
    return "\n".join(facts)


def _machine() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    import platform

    return platform.machine()


def _linux(cpuinfo: Path) -> set[str] | None:
    """Return the abilities of the first processor; a large machine takes long to list all."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return None


def _macos() -> set[str] | None:
    tool = "/usr/sbin/sysctl"
    if not Path(tool).exists():
        return None
    import subprocess

    command = [tool, "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.lower().split())


def _asked_by_numpy() -> Mapping[str, bool]:
    """Return what numpy found at its start; it has no public name, so it may be gone."""
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        if found := getattr(sys.modules.get(name), "__cpu_features__", None):
            return dict(found)
    return {}
