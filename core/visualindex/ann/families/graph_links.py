"""What a graph that was read from a file says of itself, held against what it must be.

A checksum tells damage on the way, not a file that was wrong when it was written. Faiss refuses links to rows that do not
exist. It believes that a row is on the level where it is named, or where a search begins: what it takes for the links of one
that is not are those of other rows, and behind the last one memory of others.
"""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann.families.list_rows import Field


def fault(index: Any, expected: Any, rows: int) -> str | None:
    """What is wrong with Faiss's `index`, a graph over `rows` rows, naming the field; None when nothing is.

    `expected` is an empty index as it is built for them. It takes a pass over 12 bytes a row, and the few links above the
    lowest level.
    """
    for name, found, wanted in _fields(index, expected):
        if found != wanted:
            return f"its {name} is {found} instead of {wanted}"
    return _astray(index.hnsw, rows) if rows else None


def _fields(index: Any, expected: Any) -> Iterator[Field]:
    yield "metric_type", index.metric_type, expected.metric_type
    if index.storage is not None:
        found, wanted = (type(faiss.downcast_index(one.storage)).__name__ for one in (index, expected))
        yield "storage", found, wanted
        yield "storage.metric_type", index.storage.metric_type, expected.storage.metric_type


def _astray(links: Any, rows: int) -> str | None:
    levels = _array(links.levels)
    top = int(levels.max())
    if links.max_level != top - 1:
        return f"its hnsw.max_level is {links.max_level} instead of {top - 1}"
    if not 0 <= links.entry_point < rows or levels[links.entry_point] != top:
        return f"its hnsw.entry_point {links.entry_point} is not on level {top - 1}"
    for level in range(1, top):
        if not _on_level(links, levels, level):
            return f"its hnsw.neighbors of level {level} name rows that are not on it"
    return None


def _on_level(links: Any, levels: NDArray[np.int32], level: int) -> bool:
    """Whether the rows of a level are linked there to rows of that level alone."""
    table, neighbors = _array(links.cum_nneighbor_per_level), _array(links.neighbors)
    there = np.flatnonzero(levels > level)
    first = _array(links.offsets)[there].astype(np.int64)
    named = neighbors[first[:, None] + np.arange(table[level], table[level + 1])]
    return bool((levels[named[named >= 0]] > level).all())


def _array(vector: Any) -> NDArray[Any]:
    """Faiss's memory as it is: the caller holds the index."""
    array: NDArray[Any] = faiss.rev_swig_ptr(vector.data(), vector.size())
    return array
