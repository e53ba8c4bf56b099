"""Bytes of each family, by formula: what `auto` chooses by, what a load is refused by, and what capacity is planned with.

A segment's vectors are d half-precision numbers a row, 2d bytes, in a file that is mapped. A mapped page that nobody
touched for a while can be dropped by the kernel and read again, so what counts against `memoryPerShard` is what searches
keep touching:

| family | hot bytes per row | the vectors' file |
|---|---|---|
| flat | 2d | is what is scanned: hot |
| hnsw-fp16 | 2d + L | is what the graph reads: hot |
| hnsw-sq8 | d + L | read for candidates |
| ivf-sq8 | d + 8 | read for candidates |
| ivf-pq | d / 4 (d / 2 for odd d) + 8 | read for candidates |
| rabitq | d / 8 + 16 | read for candidates |

where L = 4 (2m + m / (m - 1)) + 12 are the links of a graph: 2m on the lowest level, m on each level above, which one row in
m reaches. The families with inverted lists add 4d bytes per list for its centroid, and the fast-scan ones half a
block of 32 rows. 8 bytes are a row's number in its list.

On disk lie the vectors, 2d, and the index, whose file is as large as it is in memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from visualindex.spec.models import HnswSpec

FLAT = "flat"
ROWS_PER_CENTROID = 39
"""Fewest rows from which a centroid is learned."""
SAMPLE = 65_536
"""Most rows from which the ranges and codebooks of compressed codes are learned."""
SAMPLE_PER_LIST = 50
"""Rows from which each centroid is learned."""
_HOT_VECTORS = frozenset({FLAT, "hnsw-fp16"})
_BLOCK = 32


@dataclass(frozen=True)
class Parameters:
    """How an index is built."""

    hnsw: HnswSpec = field(default_factory=HnswSpec)
    lists: int | None = None
    """Inverted lists; None takes a number that suits the rows."""
    seed: int = 1234
    """Of the clustering and of random rotations."""


def ann_bytes(family: str, rows: int, dimension: int, parameters: Parameters) -> int:
    """Bytes of an index beside the vectors, in memory as on disk."""
    row = row_bytes(family, dimension, parameters)
    if family not in _LISTED:
        return int(row * rows)
    lists = lists_of(rows, parameters)
    blocks = lists * _BLOCK / 2 if family in _FAST_SCAN else 0
    return int(row * (rows + blocks) + 4 * dimension * lists + _LISTED[family](dimension))


def row_bytes(family: str, dimension: int, parameters: Parameters) -> float:
    """Bytes of an index per row, beside the vectors."""
    return _ROW[family](dimension, parameters.hnsw.m)


def resident_bytes(family: str, rows: int, dimension: int, parameters: Parameters) -> int:
    """Bytes that searches keep touching: the index, and the vectors where it reads them all the time."""
    vectors = 2 * dimension * rows if family in _HOT_VECTORS else 0
    return vectors + ann_bytes(family, rows, dimension, parameters)


def disk_bytes(family: str, rows: int, dimension: int, parameters: Parameters) -> int:
    """Bytes of the files: the vectors in half precision, and the index."""
    return 2 * dimension * rows + ann_bytes(family, rows, dimension, parameters)


def held_while_built(family: str, rows: int, dimension: int, parameters: Parameters) -> int:
    """Bytes of memory, mapped files not counted, of an index while it is built, and of the rows it learns from.

    The index as it is searched, with the vectors of `hnsw-fp16`, and 4d bytes for each of the `sampled_rows`: three times
    as many where centroids are subtracted from them.
    """
    if family == FLAT:
        return 0
    sampled = sampled_rows(family, rows, parameters)
    copies = 3 if family in _LISTED else 1
    return resident_bytes(family, rows, dimension, parameters) + 4 * dimension * sampled * copies


def sampled_rows(family: str, rows: int, parameters: Parameters) -> int:
    """Rows that ranges, codebooks and centroids are learned from: 65,536 at most, or 50 for each list where that is more."""
    if family in (FLAT, "hnsw-fp16"):
        return 0
    listed = SAMPLE_PER_LIST * lists_of(rows, parameters) if family in _LISTED else 0
    return min(rows, max(SAMPLE, listed))


def lists_of(rows: int, parameters: Parameters) -> int:
    """Inverted lists: a power of two near three times the root of the rows, each with enough rows to learn it from."""
    if parameters.lists:
        return max(1, min(parameters.lists, rows))
    wanted = 1 << round(math.log2(3 * math.sqrt(max(1, rows))))
    return max(1, min(wanted, rows // ROWS_PER_CENTROID))


def subquantizers(dimension: int) -> int:
    """4-bit codes of a product-quantised row: one per two dimensions, or per one where they are odd."""
    return dimension // 2 if dimension % 2 == 0 else dimension


def _links(m: int) -> float:
    return 4 * (2 * m + m / (m - 1)) + 12


_ROW: dict[str, Callable[[int, int], float]] = {
    FLAT: lambda _dimension, _m: 0.0,
    "hnsw-fp16": lambda _dimension, m: _links(m),
    "hnsw-sq8": lambda dimension, m: dimension + _links(m),
    "ivf-sq8": lambda dimension, _m: dimension + 8.0,
    "ivf-pq": lambda dimension, _m: math.ceil(subquantizers(dimension) / 2) + 8.0,
    "rabitq": lambda dimension, _m: math.ceil(dimension / 8) + 16.0,
}
_LISTED: dict[str, Callable[[int], int]] = {
    "ivf-sq8": lambda dimension: 8 * dimension,
    "ivf-pq": lambda dimension: 64 * dimension,
    "rabitq": lambda dimension: 4 * dimension * dimension,
}
"""Families with inverted lists, and the bytes of what they learn beside centroids: ranges, codebooks, a rotation."""
_FAST_SCAN = frozenset({"ivf-pq", "rabitq"})
FAMILIES = tuple(_ROW)
"""All families, `flat` first, then by falling memory."""
