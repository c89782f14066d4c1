"""What training and export must know alike of INT8 weights. Numbers only."""

from __future__ import annotations

__all__ = ["LEVELS", "PAIR_LIMIT"]

PAIR_LIMIT = 128
"""Largest sum of two neighbouring weights: 255 * 128 = 32640 fits int16; 255 * 129 does not."""

LEVELS = (127, 106, 88, 74, 64)
"""Candidates for the integer that a channel's largest weight is mapped to."""
