"""Was the machine quiet enough to trust the figures? Sentences say why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_fgr_bench.samples import Block

__all__ = ["noise_of"]

_BUSY = 0.97
_SPREAD = 0.10
_DRIFT = 0.05
"""Shares: what two runs of a quiet machine stay well within."""

_FEW = 4
"""Fewer blocks say nothing."""


def noise_of(
    blocks: Sequence[Block], us: Mapping[str, Sequence[int]], *, alone: bool
) -> tuple[str, ...]:
    """Return a sentence for each reason to distrust; none where nothing says so.

    Args:
        blocks: the turns of one candidate.
        us: its samples by phase.
        alone: whether it keeps one processor busy all the time: the CPU with one thread.
    """
    if len(blocks) < _FEW:
        return ()
    found = []
    busy = sum(b.busy * b.seconds for b in blocks) / sum(b.seconds for b in blocks)
    if alone and busy < _BUSY:
        found.append(f"it had its processor for only {busy:.0%} of the time; stop other work")
    inference = np.asarray(us["inference"], float)
    ends = np.cumsum([block.queries for block in blocks])[:-1]
    turns = [float(np.median(turn)) for turn in np.split(inference, ends)]
    fast, slow = np.quantile(turns, [0.1, 0.9])
    first, second = (np.median(half) for half in np.array_split(inference, 2))
    if abs(second - first) > _DRIFT * min(first, second):
        found.append(
            f"inference drifted from {first / 1e3:.2f} to {second / 1e3:.2f} ms; run longer"
        )
    elif slow > fast * (1 + _SPREAD):
        found.append(
            f"inference took {fast / 1e3:.2f} ms in some turns and {slow / 1e3:.2f} in others; "
            "fix the clock, or stop other work"
        )
    return tuple(found)
