"""Vectors as half-precision codes in numpy memory that Faiss scans in place.

Half precision is what the catalog stores, so a scan is exact with respect to the truth, at half the memory traffic of
float32. Faiss reads the rows where they are: an index header over foreign memory costs microseconds, so every search
can make its own over the rows it may see, while a writer appends behind them.
"""

from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

# Faiss patches its SWIG classes at import: the constructors take other arguments than those it declares.
_IDSelectorBitmap: Any = faiss.IDSelectorBitmap
_SearchParameters: Any = faiss.SearchParameters

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


def scan(
    codes: Codes, queries: NDArray[np.float32], k: int, keep: Mask | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Exact inner products: the best `k` kept rows of each query as scores float32 [q, k] and rows int64 [q, k].

    Rows are -1 where fewer than `k` are kept.
    """
    if keep is not None and np.count_nonzero(keep) < GATHER_BELOW * len(codes):
        rows = np.flatnonzero(keep)
        scores, places = _search(over(gathered := codes[rows]), queries, k, None)
        del gathered
        return scores, np.where(places >= 0, rows[places] if len(rows) else -1, -1)
    return _search(over(codes), queries, k, keep)


def _search(
    index: Any, queries: NDArray[np.float32], k: int, keep: Mask | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    faiss.omp_set_num_threads(1)
    if keep is None:
        return index.search(queries, k)  # type: ignore[no-any-return]
    bits = np.packbits(keep, bitorder="little")
    selector = _IDSelectorBitmap(bits)
    return index.search(queries, k, params=_SearchParameters(sel=selector))  # type: ignore[no-any-return]
