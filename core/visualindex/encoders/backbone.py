"""The seam between a model on some runtime and what makes an encoder of it: projection, scaling, a fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from visualindex.encoders.base import Device, Images, Load, Parallelism, Vectors
from visualindex.imaging.inputs import InputSpec


@dataclass(frozen=True)
class Features:
    """A model's raw output for n pictures: `pooled` float32[n, d], `patches` float16[n, rows, columns, channels]."""

    pooled: Vectors
    patches: npt.NDArray[np.float16] | None = None


class Backbone(Protocol):
    """A loaded model. Thread-safe; `run` blocks and releases the GIL."""

    @property
    def device(self) -> Device:
        """Where it computes."""

    @property
    def prefers(self) -> Load:
        """How to feed it under load."""

    def run(self, images: Images, *, patches: bool, parallelism: Parallelism) -> Features:
        """Raw features of uint8[n, height, width, 3]."""

    def run_text(self, texts: Sequence[str]) -> Vectors:
        """Raw features of words: float32[n, d]. Raises TextNotSupportedError without a text tower."""

    def close(self) -> None:
        """Free the model's memory."""


class Model(Protocol):
    """A model that is known but not loaded: enough to name its vectors, and the way to load it."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its features depend on, as JSON values: model, digest of the weights, preprocessing."""

    @property
    def dimension(self) -> int:
        """Length of the raw features."""

    @property
    def input(self) -> InputSpec:
        """The pixels it takes."""

    @property
    def default_projection(self) -> str | None:
        """Name of the projection shipped for this model in the package's data, if there is one."""

    def load(self, threads: int) -> Backbone:
        """Load it with so many CPU threads. Raises EncoderConfigError when it cannot be had."""
