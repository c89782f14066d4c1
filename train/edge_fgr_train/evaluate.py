"""Run a network over image files through ``edge_fgr.image``, as a device would."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edge_fgr.contract import Geometry, Label
from edge_fgr.decision import probabilities, roll_up
from edge_fgr_train.batches import batches
from edge_fgr_train.collectives import summed
from edge_fgr_train.network import Network
from edge_fgr_train.ranks import ALONE, Ranks

__all__ = ["coarse_hits", "embeddings_of", "figures_of", "logits_of", "top1", "wilson"]

Floats = npt.NDArray[np.float32]


def logits_of(
    network: Network,
    paths: Sequence[Path],
    geometry: Geometry,
    *,
    batch: int = 32,
    ranks: Ranks = ALONE,
) -> Floats:
    """Return logits ``(len(paths), C)``, float32, on the device that the network is on.

    Ranks share the batches; each returns all rows.
    """
    return _outputs(network, paths, geometry, batch, "logits", ranks)


def embeddings_of(
    network: Network,
    paths: Sequence[Path],
    geometry: Geometry,
    *,
    batch: int = 32,
    ranks: Ranks = ALONE,
) -> Floats:
    """Return embeddings ``(len(paths), D)``, likewise."""
    return _outputs(network, paths, geometry, batch, "embedding", ranks)


@torch.inference_mode()
def _outputs(
    network: Network,
    paths: Sequence[Path],
    geometry: Geometry,
    batch: int,
    name: str,
    ranks: Ranks,
) -> Floats:
    network.eval()
    own = ranks.share(len(paths), batch)
    device = next(network.parameters()).device
    rows: list[Floats] = []
    for pixels in batches(paths[own], geometry, batch):
        found = getattr(network(torch.from_numpy(pixels).to(device)), name)
        rows.append(found.float().cpu().numpy())
    if ranks.world == 1:
        return np.concatenate(rows)
    width = network.head.out_features if name == "logits" else network.head.in_features
    whole = np.zeros((len(paths), width), np.float32)
    if rows:
        whole[own] = np.concatenate(rows)
    return summed(ranks, whole)


def top1(logits: Floats, targets: Sequence[int]) -> float:
    """Share of rows whose largest logit is the target."""
    return float(np.mean(logits.argmax(axis=1) == np.asarray(targets)))


def coarse_hits(
    logits: Floats,
    targets: Sequence[int],
    labels: Sequence[Label],
    temperature: float = 1.0,
    depth: int = 2,
) -> npt.NDArray[np.bool_]:
    """Whether the coarse class is right: probabilities summed over equal first path elements."""
    coarse, summed = roll_up(probabilities(logits, temperature), labels, depth)
    truth = [coarse.index(labels[target][:depth]) for target in targets]
    hits: npt.NDArray[np.bool_] = summed.argmax(axis=1) == np.array(truth)
    return hits


def figures_of(
    logits: Floats, targets: Sequence[int], labels: Sequence[Label], temperature: float = 1.0
) -> dict[str, float]:
    """Return ``top1`` and ``coarse`` of a run's log, 0 to 1, to four places."""
    coarse = coarse_hits(logits, targets, labels, temperature)
    return {"top1": round(top1(logits, targets), 4), "coarse": round(float(coarse.mean()), 4)}


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share, weight = hits / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)
