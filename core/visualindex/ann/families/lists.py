"""Inverted lists: rows sorted by their nearest centroid, of which a search reads the lists nearest to the query.

The lists hold compressed codes: 8 bits per number; products of 4-bit codes that are looked up in registers (Jégou et al.,
PAMI 2011; André et al., PAMI 2021); or one bit per number after a random rotation (RaBitQ, Gao and Long, SIGMOD 2024). Exact
scores come from the segment's half-precision codes, of which only candidates are read.
"""

import math
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families import files, list_rows
from visualindex.ann.families.base import Approximate, Effort, Found, Parameters, Wanted
from visualindex.capacity.sizes import ann_bytes, lists_of, row_bytes, subquantizers

_faiss: Any = faiss  # its stubs do not know what its classes gain at import

_ITERATIONS = 10
_SAMPLE = 64
"""Rows of a list that stand for all of it where a filter's share is estimated."""
_SCARCE = 8.0
"""How many times as many rows are read at most, to begin with, where few of those near a query pass."""
_USUAL = 1.1
"""Up to so many times as many, a filter leaves near the query about what it leaves elsewhere."""
_SAME = 20
"""Of so many hits one may change when more lists are read."""
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
        turned = self._turned(queries)
        if keep is not None:
            return self._kept_candidates(turned, keep, wanted)
        parameters = unmasked(min(nprobe_of(wanted), self._nlist))
        found: Found = self._lists.search(turned, wanted.depth, params=parameters)
        return found

    def _kept_candidates(self, turned: NDArray[np.float32], keep: Mask, wanted: Wanted) -> Found:
        """Where fewer rows near a query are kept than elsewhere, twice the lists are read until that changes no hit.

        Nothing is found for queries of which so many would be read that it is cheaper to scan: the caller does.
        """
        kept = self.rows / wanted.widening
        nprobe, scarcity = self._enough_lists(turned, keep, wanted)
        depth = min(math.ceil(wanted.depth * scarcity**0.5), int(kept))
        scores = np.full((len(turned), depth), -np.inf, np.float32)
        rows = np.full((len(turned), depth), -1, np.int64)
        selector, _bits = half.selector(keep)
        pending, worth_it = np.arange(len(turned)), self._scannable_of(nprobe) <= kept
        while len(pending) and worth_it:
            parameters = _faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
            before = rows[pending, : wanted.hits]
            scores[pending], rows[pending] = self._lists.search(turned[pending], depth, params=parameters)
            if scarcity <= _USUAL or nprobe == self._nlist:
                return scores, rows
            pending = pending[_changed(before, rows[pending, : wanted.hits])]
            nprobe *= 2
            worth_it = nprobe / self._nlist * self.rows <= kept
        rows[pending] = -1
        return scores, rows

    def _enough_lists(self, turned: NDArray[np.float32], keep: Mask, wanted: Wanted) -> tuple[int, float]:
        """How many lists hold as many rows that pass as a search of them alone would read, and how many times that is.

        The lists near a query may hold fewer of them than others do, or none: a filter may leave out just its surroundings.
        What passes then lies further out, in about as many directions as there are lists, and more of it is read.
        """
        sample, sizes = self._sampled
        passing = keep[sample].mean(axis=1) * sizes
        usual = min(self._nlist, max(1, nprobe_of(wanted)))
        looked_at = min(self._nlist, 4 * usual)
        while True:
            _, lists = self._lists.quantizer.search(turned, looked_at)
            so_far = np.cumsum(passing[lists], axis=1)
            near = so_far[:, usual - 1] / np.maximum(1, sizes[lists[:, :usual]].sum(axis=1))
            scarcity = np.clip(1 / np.maximum(near * wanted.widening, 0.01) ** 2, 1, _SCARCE)
            enough = _tuned(wanted) * wanted.lengthening * self.rows / self._nlist * scarcity
            if looked_at == self._nlist or (so_far[:, -1] >= enough).all():
                break
            looked_at = min(self._nlist, 4 * looked_at)
        nprobe = int((so_far < enough[:, None]).sum(axis=1).max()) + 1
        return min(self._nlist, max(nprobe, usual)), float(scarcity.max())

    @cached_property
    def _sampled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Some rows of each list, int64 [lists, 64], repeated where it has fewer, and the sizes, int64 [lists]."""
        inverted = self._lists.invlists
        sizes = np.array([inverted.list_size(number) for number in range(self._nlist)], np.int64)
        sample = np.zeros((self._nlist, _SAMPLE), np.int64)
        for number in np.flatnonzero(sizes).tolist():
            size = int(sizes[number])
            ids = faiss.rev_swig_ptr(inverted.get_ids(number), size)
            sample[number] = ids[np.arange(_SAMPLE) * size // _SAMPLE]
        return sample, sizes

    def _turned(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        return queries

    def _scannable(self, wanted: Wanted) -> float:
        return self._scannable_of(nprobe_of(wanted))

    def _scannable_of(self, nprobe: int) -> float:
        read = min(1.0, nprobe / self._nlist) * self.rows
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


def fault(family: str, index: Any, codes: Codes, parameters: Parameters) -> str | None:
    """What is wrong with a Faiss index that was read for `codes`; None when nothing is, or it has no lists."""
    if family not in (IvfSq8.family, IvfPq.family, RaBitQ.family):
        return None
    expected = untrained(family, len(codes), codes.shape[1] // 2, parameters)
    return list_rows.fault(index, expected, len(codes))


def _rotated(index: Any, parameters: Parameters) -> Any:
    rotation = _faiss.RandomRotationMatrix(index.d, index.d)
    rotation.init(parameters.seed)
    rotation.is_trained = True
    return _faiss.IndexPreTransform(rotation, index)


def _seeded(clustering: Any, parameters: Parameters) -> None:
    clustering.seed = parameters.seed
    clustering.min_points_per_centroid = 1  # few rows are no reason to warn: they are few lists, and rescored


def _changed(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which queries have other hits than before, int64 [q, hits] each, bool [q]."""
    news = [len(np.setdiff1d(new, old)) for new, old in zip(after, before, strict=True)]
    return np.array([count > after.shape[1] // _SAME for count in news], np.bool_)


def nprobe_of(wanted: Wanted) -> int:
    """Lists to read: more as fewer rows are kept, and as more hits are wanted, for those lie further out."""
    return int(_tuned(wanted) * wanted.widening * wanted.lengthening)


def _tuned(wanted: Wanted) -> int:
    if wanted.effort.nprobe is None:
        raise ValueError("inverted lists are searched by nprobe, and this effort has none")
    return wanted.effort.nprobe


@lru_cache(maxsize=64)
def unmasked(nprobe: int) -> Any:
    """What Faiss is told of a search without a mask."""
    return _faiss.SearchParametersIVF(nprobe=nprobe)
