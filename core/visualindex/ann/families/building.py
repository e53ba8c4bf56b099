"""Building an index: trained on a sample, filled row after row, so that the same rows give the same bytes.

Faiss computes the links of a batch of rows before it writes any, so that the number of threads does not show in a graph. In
clustering and in rotations it does, by the order in which matrix products are summed: inverted lists take one thread. What
is drawn at random follows from a seed. Processors that sum differently (AVX2, AVX-512) give different bytes.
"""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes
from visualindex.ann.families import graphs, lists
from visualindex.ann.families.base import Approximate, Effort, Parameters
from visualindex.ann.families.graphs import HnswFp16, HnswSq8
from visualindex.ann.families.lists import IvfPq, IvfSq8, RaBitQ
from visualindex.ann.graph import CHUNK, Abandoned
from visualindex.capacity.sizes import SAMPLE, SAMPLE_PER_LIST, lists_of

_faiss: Any = faiss  # its stubs do not know what GPU builds have besides

_GRAPHS: dict[str, type[Approximate]] = {kind.family: kind for kind in (HnswFp16, HnswSq8)}
_LISTS: dict[str, type[Approximate]] = {kind.family: kind for kind in (IvfSq8, IvfPq, RaBitQ)}
CLASSES = {family: kind.faiss_class for family, kind in (_GRAPHS | _LISTS).items()}
"""What Faiss calls the index of each family."""
_LEAST_SAMPLE = 16
"""Fewest rows that codebooks of 4 bits can be learned from; fewer are repeated."""


class Building:
    """An index that grows: it can be searched over the rows it has, and becomes what is served when it has all."""

    def __init__(self, family: str, codes: Codes, parameters: Parameters, threads: int) -> None:
        self._family = family
        self._codes = codes
        self._parameters = parameters
        self._threads = 1 if family in _LISTS else threads
        self._rows = 0
        dimension = codes.shape[1] // 2
        faiss.omp_set_num_threads(self._threads)
        if family in _LISTS:
            self._index = lists.untrained(family, len(codes), dimension, parameters)
            self._storage = None
        else:
            self._index, self._storage = graphs.untrained(family, dimension, parameters)
        if not self._index.is_trained:
            most = SAMPLE_PER_LIST * lists_of(len(codes), parameters) if family in _LISTS else 0
            self._index.train(sample(codes, max(SAMPLE, most)))

    def grow(self, rows: int, wanted: Callable[[], bool]) -> None:
        """Add the rows up to the `rows`-th. Raises `Abandoned` soon after `wanted` turns false."""
        if self._storage is not None:
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
    family: str, index: Any, codes: Codes, parameters: Parameters, effort: Effort | None, *, gpu: bool = False
) -> Approximate:
    """A Faiss index, built or read, as the index of a segment.

    `gpu`: in its GPU form, where it has one and Faiss sees a GPU. Never while it is built, so that the same rows are given
    the same effort everywhere.
    """
    found = (_GRAPHS | _LISTS)[family](index, codes, parameters, effort)
    if gpu and isinstance(found, IvfSq8) and gpus():
        from visualindex.ann.families.gpu import on_gpu  # only here is there what it names of Faiss

        return on_gpu(found)
    return found


def gpus() -> int:
    """GPUs that Faiss sees from this process: none with its CPU build."""
    return int(_faiss.get_num_gpus()) if hasattr(_faiss, "StandardGpuResources") else 0


def sample(codes: Codes, most: int) -> NDArray[np.float32]:
    """At most `most` rows, evenly spaced, float32 [m, dimension]; zero vectors where there are none."""
    if not len(codes):
        return np.zeros((_LEAST_SAMPLE, codes.shape[1] // 2), np.float32)
    spaced = half.decode(np.ascontiguousarray(codes[:: -(-len(codes) // most)]))
    repeats = -(-_LEAST_SAMPLE // len(spaced))
    return np.tile(spaced, (repeats, 1)) if repeats > 1 else spaced
