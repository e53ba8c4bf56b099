"""Building an index: trained on a sample, filled row after row, so that the same rows give the same bytes.

Faiss fills lists and graphs in the order of rows, so that the number of threads does not show in the result; what clustering
draws at random follows from a seed.
"""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes
from visualindex.ann.families import graphs
from visualindex.ann.families.base import Approximate, Effort, Parameters
from visualindex.ann.families.graphs import HnswFp16, HnswSq8
from visualindex.ann.graph import CHUNK, Abandoned

_KINDS: dict[str, type[Approximate]] = {kind.family: kind for kind in (HnswFp16, HnswSq8)}
_SAMPLE = 65_536
"""Rows from which the ranges of 8-bit codes are learned."""


class Building:
    """An index that grows: it can be searched over the rows it has, and becomes what is served when it has all."""

    def __init__(self, family: str, codes: Codes, parameters: Parameters, threads: int) -> None:
        self._family = family
        self._codes = codes
        self._parameters = parameters
        self._threads = threads
        self._rows = 0
        self._index, self._storage = graphs.untrained(family, codes.shape[1] // 2, parameters)
        if not self._index.is_trained:
            faiss.omp_set_num_threads(threads)
            self._index.train(sample(codes, _SAMPLE))

    def grow(self, rows: int, wanted: Callable[[], bool]) -> None:
        """Add the rows up to the `rows`-th. Raises `Abandoned` soon after `wanted` turns false."""
        self._index.storage = self._storage
        for start in range(self._rows, rows, CHUNK):
            if not wanted():
                raise Abandoned
            faiss.omp_set_num_threads(self._threads)
            self._index.add(half.decode(self._codes[start : min(rows, start + CHUNK)]))
        self._rows = rows

    def searchable(self, effort: Effort | None = None) -> Approximate:
        """The index over the rows added so far; it is not searched any more once others are added."""
        return adopted(self._family, self._index, self._codes[: self._rows], self._parameters, effort)


def build_ann(
    family: str,
    codes: Codes,
    parameters: Parameters,
    wanted: Callable[[], bool] = lambda: True,
    threads: int = 1,
) -> Approximate:
    """An index of `family` over all of `codes`; raises `Abandoned` soon after `wanted` turns false."""
    building = Building(family, codes, parameters, threads)
    building.grow(len(codes), wanted)
    return building.searchable()


def adopted(
    family: str, index: Any, codes: Codes, parameters: Parameters, effort: Effort | None
) -> Approximate:
    """A Faiss index, built or read, as the index of a segment."""
    return _KINDS[family](index, codes, parameters, effort)


def sample(codes: Codes, most: int) -> NDArray[np.float32]:
    """At most `most` rows, evenly spaced, float32 [m, dimension]; a zero vector where there are none."""
    if not len(codes):
        return np.zeros((1, codes.shape[1] // 2), np.float32)
    return half.decode(np.ascontiguousarray(codes[:: -(-len(codes) // most)]))
