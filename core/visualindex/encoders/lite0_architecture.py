"""EfficientNet-Lite0 in figures: what its runtimes share, importable without any of them.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in its Lite form: ReLU6, no
squeeze-and-excitation, fixed stem and head.
"""

from typing import NamedTuple

GRAPH_VERSION = 1
"""Raised whenever the built graph changes, so that a cached file of an older release is not taken for the new one."""

SIZE = 224
MEAN, SCALE = 127.0, 128.0
"""Pixels 0 … 255 enter as (x - MEAN) / SCALE."""

DIMENSION = 1280
PATCH_GRID, PATCH_CHANNELS = 14, 112
BN_EPSILON = 1e-3


class Stage(NamedTuple):
    """A row of the architecture table: `repeats` blocks, the first of which has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
PATCH_STAGE = 4
"""The stage whose output, half-way through the model, serves as patch features."""
