"""HNSW graphs (Malkov and Yashunin, arXiv:1603.09320) over the segment's half-precision codes or over 8-bit ones."""

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families import files, graph_links
from visualindex.ann.families.base import Approximate, Effort, Found, Parameters, Wanted
from visualindex.ann.passing_walk import ROWS_PER_CANDIDATE, Walk, walk
from visualindex.capacity.sizes import ann_bytes

_faiss: Any = faiss  # its stubs do not know what its classes gain at import


class _Graph(Approximate):
    flags: ClassVar[int] = 0

    def _candidates(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> Found:
        faiss.omp_set_num_threads(1)
        if keep is None:
            found: Found = self.index.search(
                queries, wanted.depth, params=_unmasked(min(_ef(wanted), self.rows))
            )
            return found
        kept = int(np.count_nonzero(keep))
        how = Walk.of(_tuned(wanted), wanted.depth, self.rows, kept, self.parameters.hnsw.m)
        return walk(self.index, queries, wanted.depth, keep, how)

    def _scannable(self, wanted: Wanted) -> float:
        return ROWS_PER_CANDIDATE * self.parameters.hnsw.m * _ef(wanted)

    @property
    def memory_bytes(self) -> int:
        """Links, and codes of the family's own."""
        return ann_bytes(self.family, self.rows, self.dimension, self.parameters)

    def write(self, directory: Path) -> None:
        """See `Ann.write`."""
        files.write(directory, self.family, self.codes, self.index, self.parameters, self.effort, self.flags)


class HnswFp16(_Graph):
    """A graph over the segment's own codes: no second copy of the vectors, and scores that are exact."""

    family: ClassVar[str] = "hnsw-fp16"
    faiss_class: ClassVar[str] = "IndexHNSW"
    exact: ClassVar[bool] = True
    flags: ClassVar[int] = faiss.IO_FLAG_SKIP_STORAGE

    def __init__(self, index: Any, codes: Codes, parameters: Parameters, effort: Effort | None) -> None:
        super().__init__(index, codes, parameters, effort)
        # The index reads the codes in place; it does not own what it reads, so both are held here.
        self._storage = half.over(codes)
        index.storage, index.own_fields = self._storage, False


class HnswSq8(_Graph):
    """A graph over 8-bit codes of its own: half the memory; the exact codes are read for candidates alone."""

    family: ClassVar[str] = "hnsw-sq8"
    faiss_class: ClassVar[str] = "IndexHNSWSQ"


def untrained(family: str, dimension: int, parameters: Parameters) -> tuple[Any, Any]:
    """An empty Faiss index of a family of graphs, and the storage it fills while it is built.

    The storage is to be held, and put back before rows are added to an index that read the segment's codes meanwhile.
    """
    if family == HnswFp16.family:
        storage = half.quantizer(dimension)
        index = _faiss.IndexHNSW(storage, parameters.hnsw.m)
        index.own_fields, index.is_trained = False, True
    else:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = _faiss.IndexHNSWSQ(dimension, kind, parameters.hnsw.m, faiss.METRIC_INNER_PRODUCT)
        storage = index.storage
    index.hnsw.efConstruction = parameters.hnsw.ef_construction
    return index, storage


def fault(family: str, index: Any, codes: Codes, parameters: Parameters) -> str | None:
    """What is wrong with a Faiss index that was read for `codes`; None when nothing is, or it is no graph."""
    if family not in (HnswFp16.family, HnswSq8.family):
        return None
    expected, _held = untrained(family, codes.shape[1] // 2, parameters)
    return graph_links.fault(index, expected, len(codes))


def _ef(wanted: Wanted) -> int:
    """Length of the candidate list.

    It holds rows that are not kept too, so it grows as fewer are. That has no bound: where the list becomes long, scanning
    the kept rows is cheaper.
    """
    return max(int(max(_tuned(wanted), 2 * wanted.hits) * wanted.widening), wanted.depth)


def _tuned(wanted: Wanted) -> int:
    if wanted.effort.ef_search is None:
        raise ValueError("a graph is searched by ef_search, and this effort has none")
    return wanted.effort.ef_search


@lru_cache(maxsize=64)
def _unmasked(ef: int) -> Any:
    return _faiss.SearchParametersHNSW(efSearch=ef)
