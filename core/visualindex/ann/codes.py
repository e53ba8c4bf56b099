"""Vectors as half-precision codes in numpy memory that Faiss scans in place.

Half precision is what the catalog stores, so a scan is exact with respect to the truth, at half the memory traffic of
float32. Faiss reads the rows where they are: an index header over foreign memory costs microseconds, so every search
can make its own over the rows it may see, while a writer appends behind them.
"""

import threading
from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

_faiss: Any = faiss  # its stubs do not know what its classes gain at import

Codes: TypeAlias = NDArray[np.uint8]
"""Half-precision vectors, uint8 [n, 2 * dimension], C-contiguous."""

Mask: TypeAlias = NDArray[np.bool_]

GATHER_BELOW = 0.125
"""Share of kept rows below which copying them together beats skipping the others."""


def quantizer(dimension: int) -> Any:
    """An empty half-precision inner-product index."""
    return faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def encode(vectors: NDArray[np.float32]) -> Codes:
    """Half-precision codes of float32 [n, dimension] vectors."""
    codes: Codes = quantizer(vectors.shape[1]).sa_encode(vectors)
    return codes


def decode(codes: Codes) -> NDArray[np.float32]:
    """The float32 [n, dimension] vectors of codes."""
    vectors: NDArray[np.float32] = quantizer(codes.shape[1] // 2).sa_decode(codes)
    return vectors


def over(codes: Codes) -> Any:
    """A Faiss index that reads `codes` in place; the caller keeps them alive while it is used."""
    index = quantizer(codes.shape[1] // 2)
    view(index, codes)
    return index


def view(index: Any, codes: Codes) -> None:
    """Make a scalar-quantizer index read `codes` in place of memory of its own."""
    held, pointer = index.codes, faiss.swig_ptr(codes)
    held.is_owned = False
    held.view_data = held.c_ptr = pointer
    held.view_size = held.c_size = codes.size
    index.ntotal = len(codes)


def selector(keep: Mask) -> tuple[Any, NDArray[np.uint8]]:
    """A Faiss selector of the kept rows, and the bits it points into: hold them while it is used."""
    bits = np.packbits(keep, bitorder="little")
    return _faiss.IDSelectorBitmap(bits), bits


def scan(
    codes: Codes, queries: NDArray[np.float32], k: int, keep: Mask | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Exact inner products: the best `k` kept rows of each query as scores float32 [q, k] and rows int64 [q, k].

    Rows are -1 where fewer than `k` are kept.
    """
    if keep is not None and np.count_nonzero(keep) < GATHER_BELOW * len(codes):
        rows = np.flatnonzero(keep)
        gathered = codes[rows]
        scores, places = _search(gathered, queries, k, None)
        return scores, np.append(rows, -1)[places]
    return _search(codes, queries, k, keep)


def scores_of(codes: Codes, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inner product of every row with one query, float32 [dimension], as float32 [n]; equal to `scan`'s."""
    scores = np.empty(len(codes), np.float32)
    if len(codes):
        found, rows = _search(codes, query[None], len(codes), None)
        scores[rows[0]] = found[0]
    return scores


class _Views(threading.local):
    """Of each thread one index for each dimension: to make an index takes as long as to scan some hundred rows."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}

    def over(self, codes: Codes) -> Any:
        """An index that reads `codes` until the thread asks for another; the caller keeps them alive meanwhile."""
        width = codes.shape[1]
        made = self._made.get(width)
        if made is None:
            index = over(codes)
            made = self._made[width] = (index, index.codes)
        index, held = made
        held.c_ptr, held.c_size, index.ntotal = faiss.swig_ptr(codes), codes.size, len(codes)
        return index


_views = _Views()


def _search(
    codes: Codes, queries: NDArray[np.float32], k: int, keep: Mask | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    faiss.omp_set_num_threads(1)
    found: tuple[NDArray[np.float32], NDArray[np.int64]]
    if keep is None:
        found = _views.over(codes).search(queries, k)
    else:
        chosen, _bits = selector(keep)
        found = _views.over(codes).search(queries, k, params=_faiss.SearchParameters(sel=chosen))
    return found
