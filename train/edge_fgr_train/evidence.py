"""Where a network in training sees evidence for a class: the maps that the device draws.

``edge_fgr.saliency`` has them from the head's weights (class activation maps: Zhou et al., CVPR
2016, section 2). Here they come by the gradient: features times the slope of the logit, summed over
channels. Where the embedding is the mean of the features and the head is linear, slopes are the
weights over the number of positions, so that both are equal; other heads and poolings have maps as
well (Grad-CAM before its ReLU, with slopes that are not averaged: Selvaraju et al., ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_fgr_train.mirrors import together
from edge_fgr_train.network import Network
from edge_fgr_train.pooling import Levels
from edge_fgr_train.tiles import stitch

__all__ = ["class_maps"]

_LEAST_LENGTH = 1e-12


def class_maps(
    network: Network, pixels: npt.NDArray[np.uint8], classes: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return where the evidence for a class of each picture lies: float32 ``(N, h, w)``, in logits.

    It is that of the logit above the mean of all logits: softmax does not see a number added to all
    of them. A map's mean is this difference less the bias's, for a linear head on mean features. As
    on the device, the length of an embedding that is scaled to 1 counts as given.

    Args:
        network: on any device; it is left in evaluation mode. One that gives no map has maps of
            one position.
        pixels: uint8 ``(N, H, W, 3)``.
        classes: one for each picture.
    """
    network.eval()
    device = next(network.parameters()).device
    kept: list[Tensor] = []

    def cut(_module: Any, _inputs: Any, features: Tensor) -> Tensor:
        """Begin the gradient here: what lies below costs time and memory, and may be frozen."""
        kept.append(features.detach().requires_grad_())
        return kept[-1]

    # Of ``levels`` the map is of the last one: its backbone is not called as a whole.
    last: Any = network.backbone.bn2 if isinstance(network.pool, Levels) else network.backbone
    handle = last.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            outputs = network(torch.from_numpy(pixels).to(device))
    finally:
        handle.remove()
    with torch.enable_grad():
        logits = outputs.logits
        if network.l2:
            length = torch.linalg.vector_norm(outputs.embedding, dim=1, keepdim=True).detach()
            logits = network.head(outputs.embedding / length.clamp_min(_LEAST_LENGTH))
        rows = torch.arange(len(pixels), device=device)
        above = logits[rows, torch.tensor(classes, device=device)] - logits.mean(1)
        (slopes,) = torch.autograd.grad(above.sum(), kept)
    features = kept[0].detach()
    shares = (features * slopes).sum(1)  # (N, h, w), or (N,) of an embedding alone
    maps = shares.reshape(len(shares), *(features.shape[2:] or (1, 1)))
    if network.mirrors > 1:
        maps = together(maps[:, None], network.mirrors)[:, 0] * network.mirrors
    if network.tiles > 1:  # slopes are 0 in all but the worst
        maps = stitch(maps[:, None], network.tiles)[:, 0]
    scaled = maps * maps[0].numel()  # the mean of a map is the logit's part
    found: npt.NDArray[np.float32] = scaled.float().cpu().numpy()
    return found
