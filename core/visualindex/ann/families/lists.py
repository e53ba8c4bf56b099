"""Inverted lists: rows sorted by their nearest centroid, of which a search reads the lists nearest to the query.

The lists hold compressed codes: 8 bits per number; products of 4-bit codes that are looked up in registers (Jégou et al.,
PAMI 2011; André et al., PAMI 2021); or one bit per number after a random rotation (RaBitQ, Gao and Long, SIGMOD 2024). Exact
scores come from the segment's half-precision codes, of which only candidates are read.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families import files
from visualindex.ann.families.base import Approximate, Effort, Found, Parameters, Wanted
from visualindex.capacity.sizes import ann_bytes, lists_of, row_bytes, subquantizers

_faiss: Any = faiss  # its stubs do not know what its classes gain at import

_ITERATIONS = 10
_GATHERED = 2.5
"""How many bytes in a row are read in the time of one of a row that is gathered for a scan."""


class _Lists(Approximate):
    def __init__(self, index: Any, codes: Codes, parameters: Parameters, effort: Effort | None) -> None:
        super().__init__(index, codes, parameters, effort)
        self._lists = self._searched()
        self._nlist = int(self._lists.nlist)

    def _searched(self) -> Any:
        """The part of the index that holds the lists."""
        return self.index

    def _candidates(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> Found:
        faiss.omp_set_num_threads(1)
        nprobe = min(nprobe_of(wanted), self._nlist)
        if keep is None:
            parameters = _unmasked(nprobe)
        else:
            selector, _bits = half.selector(keep)
            parameters = _faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        found: Found = self._lists.search(self._turned(queries), wanted.depth, params=parameters)
        return found

    def _turned(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        return queries

    def _scannable(self, wanted: Wanted) -> float:
        read = min(1.0, nprobe_of(wanted) / self._nlist) * self.rows
        code = row_bytes(self.family, self.dimension, self.parameters)
        return read * code / (2 * self.dimension * _GATHERED)

    @property
    def memory_bytes(self) -> int:
        """Lists, centroids, and what else was learned."""
        return ann_bytes(self.family, self.rows, self.dimension, self.parameters)

    def write(self, directory: Path) -> None:
        """See `Ann.write`."""
        files.write(directory, self.family, self.codes, self.index, self.parameters, self.effort)


class IvfSq8(_Lists):
    """Lists of 8-bit codes."""

    family: ClassVar[str] = "ivf-sq8"
    faiss_class: ClassVar[str] = "IndexIVFScalarQuantizer"


class IvfPq(_Lists):
    """Lists of 4-bit product codes."""

    family: ClassVar[str] = "ivf-pq"
    faiss_class: ClassVar[str] = "IndexIVFPQFastScan"


class RaBitQ(_Lists):
    """Lists of one bit per number, of vectors that were rotated at random."""

    family: ClassVar[str] = "rabitq"
    faiss_class: ClassVar[str] = "IndexPreTransform"

    def _searched(self) -> Any:
        # Faiss hands out the parts of a compound index as what they have in common.
        self._rotation = _faiss.downcast_VectorTransform(self.index.chain.at(0))
        return faiss.downcast_index(self.index.index)

    def _turned(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        turned: NDArray[np.float32] = self._rotation.apply(queries)
        return turned


def untrained(family: str, rows: int, dimension: int, parameters: Parameters) -> Any:
    """An empty Faiss index of a family of lists, for about `rows` rows."""
    lists, metric = lists_of(rows, parameters), faiss.METRIC_INNER_PRODUCT
    centroids = faiss.IndexFlatIP(dimension)
    if family == IvfSq8.family:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = _faiss.IndexIVFScalarQuantizer(centroids, dimension, lists, kind, metric)
    elif family == IvfPq.family:
        index = _faiss.IndexIVFPQFastScan(centroids, dimension, lists, subquantizers(dimension), 4, metric)
        _seeded(index.pq.cp, parameters)
    else:
        index = _faiss.IndexIVFRaBitQFastScan(centroids, dimension, lists, metric)
    _seeded(index.cp, parameters)
    index.cp.niter, index.cp.spherical = _ITERATIONS, True
    return index if family != RaBitQ.family else _rotated(index, parameters)


def _rotated(index: Any, parameters: Parameters) -> Any:
    rotation = _faiss.RandomRotationMatrix(index.d, index.d)
    rotation.init(parameters.seed)
    rotation.is_trained = True
    return _faiss.IndexPreTransform(rotation, index)


def _seeded(clustering: Any, parameters: Parameters) -> None:
    clustering.seed = parameters.seed
    clustering.min_points_per_centroid = 1  # few rows are no reason to warn: they are few lists, and rescored


def nprobe_of(wanted: Wanted) -> int:
    """Lists to read: more as fewer rows are kept, and as more hits are wanted, for those lie further out."""
    if wanted.effort.nprobe is None:
        raise ValueError("inverted lists are searched by nprobe, and this effort has none")
    return int(wanted.effort.nprobe * wanted.widening * wanted.lengthening)


@lru_cache(maxsize=64)
def _unmasked(nprobe: int) -> Any:
    return _faiss.SearchParametersIVF(nprobe=nprobe)
