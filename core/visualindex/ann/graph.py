"""The HNSW graph over a shard's sealed rows (Malkov and Yashunin, arXiv:1603.09320), as Faiss builds it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.passing_walk import Walk, walk
from visualindex.spec.models import HnswSpec

_faiss: Any = faiss  # its stubs do not know what its classes gain at import

CHUNK = 1024
"""Rows added between two looks at whether the build is still wanted."""


class Abandoned(Exception):  # noqa: N818 - an order obeyed, not an error
    """The build stopped because nobody wants it any more."""


@dataclass(frozen=True)
class Graph:
    """A finished graph; its Faiss index reads `codes` in place, so the two live and die together."""

    index: Any
    storage: Any
    codes: Codes

    @property
    def rows(self) -> int:
        """Rows the graph covers: the first ones of the shard."""
        return len(self.codes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the links; the codes are counted where they are held."""
        links = self.index.hnsw
        return int(4 * links.neighbors.size() + 8 * links.offsets.size() + 4 * links.levels.size())

    def search(
        self, queries: NDArray[np.float32], k: int, keep: Mask | None, ef_search: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """About the best `k` kept rows of each query: scores float32 [q, k], rows int64 [q, k], -1 where none."""
        faiss.omp_set_num_threads(1)
        if keep is not None:
            kept = max(1, int(np.count_nonzero(keep)))
            links = self.index.hnsw.nb_neighbors(1)
            return walk(self.index, queries, k, keep, Walk.of(ef_search, k, self.rows, kept, links))
        parameters = _faiss.SearchParametersHNSW(efSearch=max(ef_search, 2 * k))
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = self.index.search(
            queries, k, params=parameters
        )
        return found


def link_bytes(spec: HnswSpec) -> int:
    """Bytes of links per row: 2m on the lowest level, and the few rows of the upper ones."""
    return 4 * (2 * spec.m + 2) + 12


def build(codes: Codes, spec: HnswSpec, wanted: Callable[[], bool], threads: int = 1) -> Graph:
    """A graph over all of `codes`; raises `Abandoned` soon after `wanted` turns false."""
    storage = half.quantizer(codes.shape[1] // 2)
    index = _faiss.IndexHNSW(storage, spec.m)
    index.own_fields, index.is_trained = False, True
    index.hnsw.efConstruction = spec.ef_construction
    _add(index, codes, wanted, threads)
    return _reading(index, codes)


def extended(graph: Graph, codes: Codes, wanted: Callable[[], bool], threads: int = 1) -> Graph:
    """A graph over `codes`, whose first rows are those of `graph`, which keeps serving meanwhile."""
    index = _faiss.clone_index(graph.index)
    copied = index.storage
    # The clone's storage reads the old rows in place; adding needs storage that owns its rows.
    storage = half.quantizer(codes.shape[1] // 2)
    storage.add_sa_codes(codes[: graph.rows])
    index.storage, index.own_fields = storage, False
    copied.this.own(True)
    _add(index, codes[graph.rows :], wanted, threads)
    return _reading(index, codes)


def _add(index: Any, codes: Codes, wanted: Callable[[], bool], threads: int) -> None:
    for start in range(0, len(codes), CHUNK):
        if not wanted():
            raise Abandoned
        faiss.omp_set_num_threads(threads)
        index.add(half.decode(codes[start : start + CHUNK]))


def _reading(index: Any, codes: Codes) -> Graph:
    """The graph with `codes` in place of the copy that building made."""
    storage = half.over(codes)
    index.storage = storage
    return Graph(index, storage, codes)
