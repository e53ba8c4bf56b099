"""What a generation is asked: its own images, and changed copies of them."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COSINE = 0.95
"""Of a vector and its perturbed copy: about that of a picture and the same one compressed and cropped a little."""


@dataclass(frozen=True)
class Copies:
    """Changed copies of some probes."""

    vectors: NDArray[np.float32]
    """L2-normalised, float32 [c, dimension]."""
    of: NDArray[np.int64]
    """The number of the probe that each was made of, int64 [c]."""


@dataclass(frozen=True)
class Probes:
    """Images to ask for, by what the catalog says their vectors are."""

    ids: NDArray[np.uint8]
    """uint8 [p, 16]."""
    vectors: NDArray[np.float32]
    """L2-normalised, float32 [p, dimension]."""


def perturbed(ids: NDArray[np.uint8], vectors: NDArray[np.float32]) -> Copies:
    """One copy of each vector, float32 [p, dimension], turned in a direction that depends on its id alone."""
    noise = np.stack([_direction(one, vectors.shape[1]) for one in ids]) if len(ids) else vectors
    across = noise - np.sum(noise * vectors, axis=1, keepdims=True) * vectors
    across = unit(across)
    turned = _COSINE * vectors + np.float32((1 - _COSINE**2) ** 0.5) * across
    return Copies(unit(turned), np.arange(len(ids), dtype=np.int64))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, float32 [n, d], at length 1; those without direction stay."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(vectors / lengths, np.float32)


def _direction(image_id: NDArray[np.uint8], dimension: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(image_id.tobytes()))
    return rng.standard_normal(dimension, np.float32)
