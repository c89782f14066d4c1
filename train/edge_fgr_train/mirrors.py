"""A picture judged together with its mirrored copies: the mean of what is seen at each place.

A network that was taught on mirrored pictures is still not of one mind about them. The features of
the copies are turned back and averaged before they are pooled, so that whatever comes behind, the
pooling, the head, evidence maps and scores, is that of one picture. Averaging over copies in
evaluation is as old as AlexNet (Krizhevsky et al. 2012, section 4.1), there of probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FLIPS", "OF_FEATURES", "OF_PIXELS", "copies", "together"]

FLIPS = ((), ("width",), ("height",), ("width", "height"))
"""What is turned in each copy; of two copies the first two."""

OF_PIXELS = {"height": 1, "width": 2}
OF_FEATURES = {"height": 2, "width": 3}
"""Which axis each side is, of pixels ``(N, H, W, 3)`` and of features ``(N, K, h, w)``."""


def copies(pixels: Tensor, count: int) -> Tensor:
    """Return pixels ``(count * N, H, W, 3)`` of pixels ``(N, H, W, 3)``.

    All as they are, then all turned in the next way of ``FLIPS``.
    """
    turned = [pixels.flip([OF_PIXELS[side] for side in flip]) for flip in FLIPS[:count]]
    return torch.cat(turned)


def together(features: Tensor, count: int) -> Tensor:
    """Return the mean ``(N, K, h, w)`` over copies of features ``(count * N, K, h, w)``."""
    turned = [
        part.flip([OF_FEATURES[side] for side in flip])
        for part, flip in zip(features.chunk(count), FLIPS[:count], strict=True)
    ]
    return torch.stack(turned).mean(0)
