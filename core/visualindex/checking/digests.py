"""One number per bucket that tells whether two places hold the same rows of it, in whatever order they are read.

The digest of a bucket is the sum, modulo 2**64, of a 64-bit hash of each of its rows (Bellare and Micciancio, "A new
paradigm for collision-free hashing: incrementality at reduced cost", 1997, there AdHash). It finds what went wrong by
itself; it is no protection against somebody who makes rows to deceive it.
"""

import base64
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from visualindex.identity import BUCKETS, mixed

_SEED = 0x9E3779B97F4A7C15
_U64 = np.uint64


class BucketDigests:
    """Counts and digests of the rows that were added, per bucket."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
        """Rows of each bucket, int64 [1024]."""
        self.digests: NDArray[np.uint64] = np.zeros(BUCKETS, np.uint64)
        """Sum of the hashes of each bucket's rows, uint64 [1024]."""

    @property
    def rows(self) -> int:
        """Rows of all buckets."""
        return int(self.counts.sum())

    def add(
        self,
        ids: NDArray[np.uint8],
        versions: NDArray[np.int64],
        buckets: NDArray[np.integer[Any]],
        codes: NDArray[np.uint8] | None = None,
    ) -> None:
        """Take n rows in: ids uint8 [n, 16], versions int64 [n], buckets integer [n], and with `codes`, uint8 [n, b],
        the vectors as they are stored as well. Each row must be added once."""
        places = buckets.astype(np.int64)
        self.counts += np.bincount(places, minlength=BUCKETS)
        np.add.at(self.digests, places, row_hashes(ids, versions, codes))

    def differing(self, other: "BucketDigests", within: range) -> list[int]:
        """The buckets of `within` that the two do not hold alike, ascending."""
        same = (self.counts == other.counts) & (self.digests == other.digests)
        return [bucket for bucket in within if not same[bucket]]

    def to_json(self) -> dict[str, str]:
        """As JSON values."""
        return {"counts": _packed(self.counts.astype("<i8")), "digests": _packed(self.digests.astype("<u8"))}

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> Self:
        """What `to_json` wrote; ValueError when it is none."""
        made = cls()
        for name, kind in (("counts", "<i8"), ("digests", "<u8")):
            values = np.frombuffer(base64.b64decode(document[name]), kind)
            if values.shape != (BUCKETS,):
                raise ValueError(f"{name} of {len(values)} buckets, not of {BUCKETS}")
            getattr(made, name)[:] = values
        return made


def row_hashes(
    ids: NDArray[np.uint8], versions: NDArray[np.int64], codes: NDArray[np.uint8] | None
) -> NDArray[np.uint64]:
    """A hash of each row, uint64 [n]."""
    words = np.ascontiguousarray(ids).view("<u8").astype(_U64)
    hashed = mixed(words[:, 0] + _U64(_SEED))
    hashed = mixed(hashed ^ words[:, 1])
    hashed = mixed(hashed ^ versions.astype(_U64))
    return hashed if codes is None else mixed(hashed ^ _folded(codes))


def _folded(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Each row's bytes as a number, uint64 [n]: its words times odd constants of their places, summed."""
    rows, width = codes.shape
    padded = np.zeros((rows, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = codes
    words = padded.view("<u8").astype(_U64)
    places = mixed(np.arange(1, words.shape[1] + 1, dtype=_U64) * _U64(_SEED)) | _U64(1)
    return np.asarray((words * places).sum(axis=1, dtype=_U64))


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
