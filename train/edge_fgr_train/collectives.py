"""What the ranks of a training do in step: each function is called by all, or none returns.

A single process passes through all of them unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from edge_fgr.errors import UsageError
from edge_fgr_train.ranks import Ranks

__all__ = ["copied", "mean_gradients", "refuse_different", "same_row", "settle", "spread", "summed"]


def mean_gradients(ranks: Ranks, parameters: Sequence[Tensor], loss: float) -> float:
    """Put the mean over the ranks in the place of each gradient; return the mean loss.

    With parts of one size this is the gradient of the whole batch. It is one sum of all gradients
    in a row, not DistributedDataParallel: that reduces while a module's ``forward`` is undone, and
    here lessons call the network twice or from inside, ``rounded`` never calls it, and gradients of
    several pieces are reduced once. What is lost, sums beside the backward pass, is little: 14 MB a
    step for EfficientNet-Lite0.

    A parameter that no rank used keeps no gradient, so that the optimiser leaves it alone.
    """
    if ranks.world == 1:
        return loss
    unused = [parameter.grad is None for parameter in parameters]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    beside = torch.tensor([*unused, loss], device=parameters[0].device)
    flat = _flat([*gradients, beside])
    distributed.all_reduce(flat)
    _fill([*gradients, beside], flat / ranks.world)
    *nobody, mean = beside.tolist()
    for parameter, share in zip(parameters, nobody, strict=True):
        if share == 1:
            parameter.grad = None
    return float(mean)


@torch.no_grad()
def spread(ranks: Ranks, modules: Iterable[nn.Module]) -> None:
    """Give all ranks the weights and statistics of the first."""
    if ranks.world > 1:
        _spread([value for module in modules for value in module.state_dict().values()])


@torch.no_grad()
def settle(ranks: Ranks, modules: Iterable[nn.Module]) -> None:
    """After an epoch: statistics become the mean of what the ranks saw, weights those of the first.

    Weights are equal already, unless processors differ in how they round.
    """
    if ranks.world == 1:
        return
    modules = list(modules)
    seen = [b for module in modules for b in module.buffers() if b.is_floating_point()]
    if seen:
        flat = _flat(seen)
        distributed.all_reduce(flat)
        _fill(seen, flat / ranks.world)
    _spread([p.data for module in modules for p in module.parameters()])


def summed(ranks: Ranks, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the sum over the ranks of ``rows``, of which each has filled its own."""
    if ranks.world > 1:
        distributed.all_reduce(torch.from_numpy(rows))
    return rows


def same_row(ranks: Ranks, row: dict[str, float]) -> dict[str, float]:
    """Return what the first rank measured: what is decided by it is decided alike everywhere."""
    if ranks.world == 1:
        return row
    values = torch.tensor(list(row.values()), dtype=torch.float64)
    distributed.broadcast(values, 0)
    return row if ranks.is_first else dict(zip(row, values.tolist(), strict=True))


def refuse_different(ranks: Ranks, facts: Mapping[str, str]) -> None:
    """Refuse ranks that were not started alike.

    Args:
        ranks: those that are compared with the first.
        facts: what must be equal, by what it is.

    Raises:
        UsageError: on all ranks, with the number of the one that differs.
    """
    if ranks.world == 1:
        return
    digests = [np.frombuffer(hashlib.sha256(x.encode()).digest(), np.uint8) for x in facts.values()]
    own = torch.from_numpy(np.stack(digests))
    found = [torch.empty_like(own) for _ in range(ranks.world)]
    distributed.all_gather(found, own)
    for rank, other in enumerate(found):
        for fact, mine, theirs in zip(facts, found[0], other, strict=True):
            if not torch.equal(mine, theirs):
                raise UsageError(
                    f"rank {rank}: has other {fact} than rank 0; give all ranks the same"
                )


@contextmanager
def copied(ranks: Ranks, folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield a folder with the files that the first rank has in ``folder``, as far as they exist.

    Other machines need not see the run's folder: there it is a temporary one.
    """
    if ranks.world == 1:
        yield folder
        return
    with TemporaryDirectory() as beside:
        for name in names:
            path = folder / name
            content = path.read_bytes() if ranks.is_first and path.exists() else None
            content = _spread_bytes(content)
            if content is not None and not ranks.is_first:
                (Path(beside) / name).write_bytes(content)
        yield folder if ranks.is_first else Path(beside)


def _spread_bytes(content: bytes | None) -> bytes | None:
    size = torch.tensor(-1 if content is None else len(content))
    distributed.broadcast(size, 0)
    if size < 0:
        return None
    held = np.zeros(int(size), np.uint8)
    if content is not None:
        held[:] = np.frombuffer(content, np.uint8)
    distributed.broadcast(torch.from_numpy(held), 0)
    return held.tobytes()


def _spread(tensors: Sequence[Tensor]) -> None:
    for kind in sorted({tensor.dtype for tensor in tensors}, key=str):
        alike = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = _flat(alike)
        distributed.broadcast(flat, 0)
        _fill(alike, flat)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _fill(tensors: Sequence[Tensor], flat: Tensor) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
