"""PyTorch, compiled: the network of ``peer_torch`` through ``torch.compile``, its cache kept.

Needs a C++ compiler. The first start compiles for a minute and is not counted; later ones find the
kernels in the cache.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from harness import Spec, run
from peer_torch import Eager

__all__: list[str] = []


class _Compiled(Eager):
    def made(self, network: torch.nn.Module) -> Any:
        return torch.compile(network)


def _opened(spec: Spec) -> _Compiled:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{spec.scratch}/inductor"
    return _Compiled(spec)


if __name__ == "__main__":
    run(_opened)
