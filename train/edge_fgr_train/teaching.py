"""The small CNN of a thousand tutorials, built right.

Two blocks of convolution 5 x 5, BatchNorm, ReLU and 2 x 2 max pooling, 16 and 32 channels wide, and
a linear head over the flattened grid. Its well-known listing has four mistakes, which are made here
neither by accident nor by quotation:

- it flattens 7 * 7 * 32, right for the 28 x 28 digits it was written for; 32 x 32 crops leave
  8 * 8 * 32. Here the width follows from the input size;
- it moves tensors to a ``device`` that it never defines. Here the loop knows its device;
- it predicts with the random crops and flips of training. Here evaluation and the device read a
  file by ``edge_fgr.image``, the same way each time;
- it reads "the top 4" along the batch axis. Here classes are ranked within a picture.

``edge-fgr train DATA -o RUN --recipe teaching`` trains it as the listing does: 32 x 32 crops of
a picture padded by 4, flips, mean and standard deviation 0.5, Adam at 1e-3, batches of 100, 10
epochs of cross-entropy.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["CHANNELS", "TeachingCNN"]

CHANNELS = (16, 32)
"""Of its two convolutions."""


class TeachingCNN(nn.Sequential):
    """Pictures float ``(N, 3, H, W)`` to a grid ``(N, 32, H // 4, W // 4)``."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
            layers += [
                nn.Conv2d(before, after, kernel_size=5, padding=2),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        super().__init__(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the grid."""
        grid: Tensor = super().forward(pictures)  # type: ignore[no-untyped-call]
        return grid

    @staticmethod
    def width(size: int) -> int:
        """Length of the flattened grid for square pictures of ``size`` pixels."""
        return CHANNELS[-1] * (size // 4) ** 2
