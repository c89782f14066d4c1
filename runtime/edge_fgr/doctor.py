"""What this installation is made of, what of it works, and what needs care.

Every check copes with what it cannot read; each finding says what to do. Nothing is changed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_fgr import cpu, limits, trial
from edge_fgr.devices import PROVIDERS
from edge_fgr.errors import EdgeFgrError
from edge_fgr.files import cache_folder
from edge_fgr.wheels import Wheel, wheels

__all__ = ["Finding", "Level", "Report", "cache_state", "diagnose", "wheel_findings"]

Level = Literal["ok", "note", "care"]

_MUCH = 0.1
"""A device whose logits differ from the CPU's by this share of their range computes otherwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: a stable word for programs.
        level: ``care`` makes the command exit with 1; a ``note`` does not.
        text: what was found.
        todo: what to do about it; empty where nothing is.
    """

    topic: str
    level: Level
    text: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found.

    Attributes:
        versions: releases by name.
        wheels: installed packages of the onnxruntime family.
        devices: what came of trying each one that is present.
        absent: devices that this onnxruntime was not built for.
        cpu: abilities of the processor that INT8 kernels are chosen by.
        limits: processors that may be used.
        cache: state of the cache folder, as ``cache_state`` returns it.
        findings: in the order of the checks.
    """

    versions: dict[str, str]
    wheels: tuple[Wheel, ...]
    devices: tuple[trial.Trial, ...]
    absent: tuple[str, ...]
    cpu: dict[str, bool | None]
    limits: limits.Limits
    cache: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing needs care."""
        return all(finding.level != "care" for finding in self.findings)


def diagnose(model: str | None = None) -> Report:
    """Return the state of this installation, tried with a model (default: the embedded one)."""
    installed, bound, abilities = wheels(), limits.limits(), cpu.abilities()
    cache, target = cache_state(cache_folder()), None
    versions, broken = _versions()
    findings = [*wheel_findings(installed, versions.get("onnxruntime"), broken)]
    tried: list[trial.Trial] = []
    names: tuple[str, ...] = ()
    if broken is None:
        from edge_fgr.model import open_model
        from edge_fgr.providers import present

        names = present()
        try:
            target = open_model(model, device="cpu").contract.target
        except EdgeFgrError as error:
            findings.append(Finding("model", "care", str(error), "give another -m MODEL"))
        else:
            tried = [trial.run(device, model) for device in names]
            findings += map(_of_trial, tried)
    findings += _of_cpu(abilities, target)
    findings.append(_of_limits(bound))
    findings.append(_of_cache(cache))
    absent = tuple(device for device in PROVIDERS if device not in names)
    return Report(
        versions, installed, tuple(tried), absent, abilities, bound, cache, tuple(findings)
    )


def wheel_findings(
    installed: Sequence[Wheel], running: str | None, broken: str | None = None
) -> Iterator[Finding]:
    """Yield what is to say about the onnxruntime that is installed.

    Args:
        installed: its family of packages.
        running: release that is imported; None where it cannot be.
        broken: why it cannot.
    """
    brings = [wheel for wheel in installed if wheel.brings]
    said = ", ".join(f"{wheel.name} {wheel.version}" for wheel in brings)
    if len(brings) > 1:
        names = " ".join(wheel.name for wheel in brings)
        yield Finding(
            "wheels",
            "care",
            f"{said} are installed at once: all write into one folder, and the last one wins",
            f"pip uninstall -y {names} && pip install the one that you want",
        )
    if broken is not None:
        yield Finding(
            "onnxruntime",
            "care",
            f"onnxruntime cannot be imported ({broken})",
            f"pip install --force-reinstall {brings[0].name if brings else 'onnxruntime'}",
        )
    elif len(brings) == 1 and running not in (None, brings[0].version.partition("+")[0]):
        yield Finding(
            "wheels",
            "care",
            f"{said} is installed, but onnxruntime {running} runs: another package overwrote it",
            f"pip install --force-reinstall {brings[0].name}",
        )
    elif len(brings) == 1:
        yield Finding("wheels", "ok", f"{said} alone")
    elif not brings:
        yield Finding("wheels", "note", f"onnxruntime {running} was not installed by pip")
    for wheel in installed:
        if not wheel.brings and (wheel.name == "onnxruntime-qnn" or "-ep-" in wheel.name):
            yield Finding(
                "wheels",
                "note",
                f"{wheel.name} {wheel.version} is a plugin, which edge-fgr does not load",
                "see docs/devices.md for the packages whose providers are built in",
            )


def cache_state(folder: Path) -> dict[str, Any]:
    """Return ``folder``, ``exists``, ``writable``, ``bytes``, ``graphs`` and ``engines``.

    A folder that does not exist counts as writable where it could be made.
    """
    sizes: dict[Path, int] = {}
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            if path.is_file():
                sizes[path] = path.stat().st_size
        except OSError:  # gone meanwhile
            continue
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    engines = folder / "engines"
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "writable": nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
        "bytes": sum(sizes.values()),
        "graphs": sum(path.suffix == ".graph" for path in sizes),
        "engines": sum(path.is_dir() for path in engines.glob("*")),
    }


def _versions() -> tuple[dict[str, str], str | None]:
    """Return releases by name, and why onnxruntime cannot be imported."""
    from importlib.metadata import PackageNotFoundError, version

    import numpy as np
    import PIL

    try:
        own = version("edge-fgr")
    except PackageNotFoundError:
        own = "not installed by pip"
    found = {
        "edge-fgr": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    try:
        import onnxruntime as ort

        found["onnxruntime"] = ort.__version__
        found["build"] = " ".join(str(ort.get_build_info()).split())
    except Exception as error:  # a missing library, or files of two packages mixed
        return found, " ".join(str(error).split())[:200] or type(error).__name__
    return found, None


def _of_trial(done: trial.Trial) -> Finding:
    if done.error is not None:
        return Finding(
            "device",
            "care",
            done.error,
            "install what is missing, or install the onnxruntime package without it",
        )
    text = (
        f"{done.device}: runs {done.share:.0%} of the layers, {done.run_ms:.1f} ms an inference, "
        f"opened in {done.open_ms:.0f} ms"
    )
    if done.device == "cpu":
        return Finding("device", "ok", text)
    text += f", logits within {done.difference:.1%} of the CPU's"
    if (done.difference or 0.0) > _MUCH:
        return Finding(
            "device", "care", text, "compare its answers on your photos with those of --device cpu"
        )
    return Finding("device", "ok", text)


def _of_cpu(abilities: dict[str, bool | None], target: str | None) -> Iterator[Finding]:
    words = {True: "yes", False: "no", None: "unknown"}
    said = ", ".join(f"{name} {words[found]}" for name, found in abilities.items())
    text = f"{said or 'kind unknown'}; the model's target is {target or 'unknown'}"
    if reason := cpu.suits(target or ""):
        yield Finding("cpu", "care", reason, "export with --target portable")
    elif abilities.get("avx2") is False or abilities.get("dotprod") is False:
        lacks = "AVX2" if "avx2" in abilities else "the NEON dot product"
        yield Finding("cpu", "note", f"{text}; without {lacks} INT8 is right, but slow")
    else:
        yield Finding("cpu", "ok", text)


def _of_limits(bound: limits.Limits) -> Finding:
    share = "none" if bound.quota is None else f"{bound.quota:g} processors"
    usable = bound.affinity or bound.machine or 1
    text = f"{bound.machine or 'unknown'} processors, {usable} usable, quota {share}"
    if bound.quota is not None and bound.quota < usable:
        return Finding(
            "threads",
            "care",
            f"{text}: more threads than the quota get stopped in the middle",
            f"classify with --threads {bound.usable}",
        )
    return Finding("threads", "ok", text)


def _of_cache(state: dict[str, Any]) -> Finding:
    text = (
        f"{state['folder']}: {state['graphs']} graphs, {state['engines']} engines, "
        f"{state['bytes'] / 1e6:.1f} MB"
    )
    if not state["writable"]:
        return Finding(
            "cache",
            "care",
            f"{text}; cannot be written, so every start optimises the graph again",
            "set EDGE_FGR_CACHE to a folder that can, or give --no-cache",
        )
    return Finding("cache", "ok", text if state["exists"] else f"{text} (not there yet)")
