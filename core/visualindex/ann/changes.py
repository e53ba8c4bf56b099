"""What a shard is told: rows to hold and images to forget, checked before anything changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.errors import ProblemError, ProblemType


@dataclass(frozen=True)
class Upserts:
    """Images to insert or replace."""

    ids: NDArray[np.uint8]
    """Image ids, uint8 [n, 16]: `uuid.UUID.bytes` of each."""
    vectors: NDArray[np.floating[Any]]
    """Embeddings, float32 or float16 [n, dimension]; the index normalises them."""
    attributes: Sequence[Mapping[str, Any]]
    """What filters read, one mapping per image: `category`, `key`, `metadata`."""
    versions: NDArray[np.int64]
    """Version of each image, int64 [n], such as its change sequence: a higher one is newer."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Deletes:
    """Images to forget."""

    ids: NDArray[np.uint8]
    """Image ids, uint8 [n, 16]."""
    versions: NDArray[np.int64] | None = None
    """Version of each removal, int64 [n]: a row that is newer stays. Without versions every row goes."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Applied:
    """What an `apply` or a `load` did."""

    upserted: int
    deleted: int
    stale: int
    """Changes that were ignored, because the index already held the same or a newer version."""


def checked_ids(ids: NDArray[np.uint8], what: str) -> list[bytes]:
    """The ids as bytes, refusing arrays that are no uint8 [n, 16]."""
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != 16:
        raise _invalid(f"{what} must be uint8 [n, 16], got {ids.dtype} {list(ids.shape)}")
    packed = np.ascontiguousarray(ids).tobytes()
    return [packed[at : at + 16] for at in range(0, len(packed), 16)]


def normalised(vectors: NDArray[np.floating[Any]], dimension: int, what: str) -> NDArray[np.float32]:
    """The vectors as contiguous float32 [n, dimension] of length one, refusing what has no direction."""
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise _invalid(
            f"{what} must be [n, {dimension}], got {list(vectors.shape)}: use this index's encoder"
        )
    floats = np.ascontiguousarray(vectors, np.float32)
    lengths = np.sqrt(np.vecdot(floats, floats))
    if not all(0 < length < math.inf for length in lengths.tolist()):
        bad = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise _invalid(
            f"{what}[{bad}] has no direction (length {float(lengths[bad])}): encode the image again"
        )
    directed: NDArray[np.float32] = floats / lengths[:, None]
    return directed


def check_lengths(upserts: Upserts) -> None:
    """Refuse upserts whose parts differ in length."""
    lengths = {len(upserts.ids), len(upserts.vectors), len(upserts.attributes), len(upserts.versions)}
    if len(lengths) != 1:
        raise _invalid(f"ids, vectors, attributes and versions differ in length: {sorted(lengths)}")


def check_equal(first: int, second: int, what: str) -> None:
    """Refuse two parts that differ in length."""
    if first != second:
        raise _invalid(f"{what} differ in length: {first} and {second}")


def _invalid(detail: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, detail)
