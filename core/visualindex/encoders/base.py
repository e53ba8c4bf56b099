"""What every encoder offers, whatever model and runtime are behind it: the seam services depend on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from visualindex.imaging.inputs import InputSpec

Images = npt.NDArray[np.uint8]
"""Pictures of one size: uint8[n, height, width, 3], RGB."""

Vectors = npt.NDArray[np.float32]
"""Vectors as rows: float32[n, d]."""

Parallelism = Literal["latency", "throughput"]
"""`latency` gives one call all of the encoder's threads; `throughput` gives it one, for calls side by side."""

Device = Literal["cpu", "cuda"]

Load = Literal["batches", "calls"]
"""What makes an encoder busy at least cost: large `batches`, or one-image `calls` side by side."""

Fetch = Callable[[str, Path], None]
"""Downloads an object URL (`s3://bucket/key`) into a path that does not exist yet."""


@dataclass(frozen=True)
class Encoded:
    """What an encoder says about n pictures.

    `vectors` is float32[n, dimension], L2-normalised. `patches`, when asked for, is float16[n, rows, columns,
    channels]: the local features of a grid of patches, for reranking.
    """

    vectors: Vectors
    patches: npt.NDArray[np.float16] | None = None


class Encoder(Protocol):
    """A model that turns pictures into vectors. Thread-safe; `encode` blocks and releases the GIL meanwhile."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits covering model, weights, preprocessing, projection and dimension."""

    @property
    def backbone(self) -> str:
        """The fingerprint without a projection: 16 hex digits of all that `Encoded.patches` depend on."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    @property
    def device(self) -> Device:
        """Where it computes."""

    @property
    def prefers(self) -> Load:
        """How to feed it under load: `batches`, or as many `calls` side by side as it has threads."""

    @property
    def threads(self) -> int:
        """CPU threads it was given."""

    @property
    def input(self) -> InputSpec:
        """The pixels `encode` takes."""

    def encode(
        self, images: Images, *, patches: bool = False, parallelism: Parallelism = "latency"
    ) -> Encoded:
        """Encode uint8[n, height, width, 3] RGB. Raises ValueError when the array is not of that form."""

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Encode words into the pictures' space: float32[n, dimension].

        Raises TextNotSupportedError where the model has no text tower.
        """

    def close(self) -> None:
        """Free the model's memory; the encoder is of no use afterwards."""


class TextNotSupportedError(NotImplementedError):
    """This encoder has no text tower."""


def check_images(images: npt.NDArray[Any], input_: InputSpec) -> None:
    """Raise ValueError unless `images` is uint8[n, height, width, 3] of the encoder's size."""
    expected = (input_.height, input_.width, 3)
    if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype}{list(images.shape)}, but this encoder takes "
            f"uint8[n, {input_.height}, {input_.width}, 3] RGB: decode them with its input specification"
        )


def l2_normalise(rows: Vectors) -> Vectors:
    """Scale each row of float32[n, d] to length 1; rows of zeros stay zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = (rows / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)
    return scaled


class EncoderConfigError(ValueError):
    """The encoder cannot be had as its specification asks: a file, a library, a device or a number is wrong."""
