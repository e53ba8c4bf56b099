"""A generation as shards would answer with it: its segments, each an index of its own, asked together."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Ask, Base, Hits, Segment, ShardIndex, merge_hits
from visualindex.ann import codes as half
from visualindex.ann.codes import Codes
from visualindex.gate.probes import unit
from visualindex.identity import BUCKETS, scattered
from visualindex.spec import IndexSpec

_SEED = 1
_AT_ONCE = 8
"""Queries that are asked between two looks at whether an answer is still wanted: exact searches of millions of rows take
about a second each."""


@dataclass(frozen=True)
class Held:
    """What a generation holds of some images."""

    there: NDArray[np.bool_]
    """Whether it holds the image, bool [m]."""
    versions: NDArray[np.int64]
    """The version it holds, int64 [m]; -1 without."""
    codes: Codes
    """The vector it holds, uint8 [m, 2 * dimension]; zeros without."""


class Opened:
    """The segments of one generation."""

    def __init__(
        self,
        segments: Sequence[Segment],
        *,
        generation: str,
        fingerprint: str,
        dimension: int,
        index: IndexSpec,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` is called between searches, and raises what ends them early."""
        self.generation = generation
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._check = check
        self._segments = segments
        self._shards = [_shard(segment, dimension, index) for segment in segments]

    @property
    def images(self) -> int:
        """Images that it holds."""
        return sum(segment.rows for segment in self._segments)

    def ask(self, queries: NDArray[np.float32], k: int, *, exact: bool = False) -> Hits:
        """The best `k` of all shards for each query, float32 [q, dimension]; with `exact` past every index."""
        answers = [Hits.none(0, k)]
        for start in range(0, len(queries), _AT_ONCE):
            self._check()
            some = queries[start : start + _AT_ONCE]
            answers.append(merge_hits([one.look(some, Ask(k), exact=exact).hits for one in self._shards], k))
        return Hits.joined(answers)

    def took_ms(self, query: NDArray[np.float32], k: int) -> float:
        """CPU milliseconds of one query, float32 [dimension], on the shard that takes longest: they work side by side."""
        self._check()
        return max(_took_ms(one, query, k) for one in self._shards)

    def holds(self, ids: NDArray[np.uint8]) -> Held:
        """What it holds of images, uint8 [m, 16]."""
        there = np.zeros(len(ids), np.bool_)
        versions = np.full(len(ids), -1, np.int64)
        codes = np.zeros((len(ids), 2 * self.dimension), np.uint8)
        for segment in self._segments:
            rows = segment.find(ids)
            found = np.flatnonzero(rows >= 0)
            there[found] = True
            versions[found], codes[found] = segment.versions[rows[found]], segment.codes[rows[found]]
        return Held(there, versions, codes)

    def count(self, ids: NDArray[np.uint8]) -> int:
        """How many of some images, uint8 [m, 16], it holds."""
        return sum(int(np.count_nonzero(segment.find(ids) >= 0)) for segment in self._segments)

    def vectors_of(self, ids: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors it holds of images, uint8 [m, 16], L2-normalised, float32 [m, dimension]; zeros without."""
        return unit(half.decode(self.holds(ids).codes))

    def spread(self, count: int) -> NDArray[np.uint8]:
        """`count` of its images, or all, uint8 [m, 16], drawn by their ids alone, so that generations share most."""
        ids = np.concatenate([np.zeros((0, 16), np.uint8), *(segment.ids for segment in self._segments)])
        drawn: NDArray[np.uint8] = ids[np.argsort(scattered(ids, _SEED), kind="stable")[:count]]
        return drawn


def _shard(segment: Segment, dimension: int, index: IndexSpec) -> ShardIndex:
    return ShardIndex(
        dimension,
        flat_below=index.flat_below,
        hnsw=index.hnsw,
        memory_limit=sys.maxsize,
        bases=[Base.of(segment, range(BUCKETS))],
    )


def _took_ms(shard: ShardIndex, query: NDArray[np.float32], k: int) -> float:
    start = time.thread_time()
    shard.look(query[None], Ask(k))
    return (time.thread_time() - start) * 1e3
