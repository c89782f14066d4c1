"""On what a run was made: the machine, the device, releases of what computes.

No names of people or hosts: a report is passed on.
"""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from edge_fgr import __version__, cpu
from edge_fgr.limits import limits

__all__ = ["environment"]

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


def environment(device: torch.device | None = None) -> dict[str, str]:
    """Return facts by name, in the order to show them.

    Args:
        device: what the network computed on; None: not told.
    """
    bound = limits()
    machine = bound.machine or bound.usable
    facts = {
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Processor": cpu.model_name(),
        "Cores": f"{bound.usable} of {machine}" if bound.usable < machine else str(machine),
    }
    if device is not None:
        facts["Device"] = device.type
        if device.type == "cuda":
            facts["Device"] += f", {torch.cuda.get_device_name(device)}"
    facts |= {"edge-fgr": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return facts
