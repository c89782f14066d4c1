"""What is measured: each model on each device, under a letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from string import ascii_uppercase
from typing import Any

from edge_fgr.contract import Contract
from edge_fgr.errors import UsageError
from edge_fgr.sessions import Opened
from edge_fgr_bench.document import Candidate

__all__ = ["Plan", "describe", "plans_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a candidate is made of.

    Attributes:
        key: its letter.
        model: a file or the name of an embedded model.
        device: as ``edge_fgr.sessions.open_session`` takes it.
        options: of the device's provider.
    """

    key: str
    model: str
    device: Any
    options: Mapping[str, str] = field(default_factory=dict)


def plans_of(
    models: Sequence[str], devices: Sequence[str], options: Mapping[str, str]
) -> tuple[Plan, ...]:
    """Return a plan for each model on each device, models first.

    Raises:
        UsageError: there are too many, one is given twice, or options fit no device.
    """
    pairs = list(product(models, devices))
    if len(pairs) > len(ascii_uppercase):
        raise UsageError(f"{len(pairs)} models on devices; {len(ascii_uppercase)} fit one run")
    if twice := next((pair for pair in pairs if pairs.count(pair) > 1), None):
        raise UsageError(f"{twice[0]} on {twice[1]}: is given twice")
    takes = [device for device in dict.fromkeys(devices) if device not in ("auto", "cpu")]
    if options and len(takes) != 1:
        raise UsageError("--device-option: give one --device that takes options, beside cpu")
    return tuple(
        Plan(ascii_uppercase[i], model, device, options if device in takes else {})
        for i, (model, device) in enumerate(pairs)
    )


def describe(plan: Plan, opened: Opened, contract: Contract) -> Candidate:
    """Return what an open session says about itself."""
    return Candidate(
        key=plan.key,
        file=plan.model,
        name=contract.name,
        version=contract.version,
        digest=opened.digest,
        target=contract.target,
        bytes=opened.path.stat().st_size,
        size=contract.geometry.size,
        labels=contract.labels,
        asked=plan.device,
        device=opened.device,
        provider=opened.session.get_providers()[0],
        share=round(opened.share, 4),
    )
