"""Exact scores of candidates, by the kernel that scans, so that an image scores the same wherever it is found."""

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes


def rescored(
    codes: Codes, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `k` of each query's candidates: scores float32 [q, k], rows int64 [q, k], -1 where there are fewer.

    `candidates` is int64 [q, c], -1 where there is none. All are gathered at once, so that rows which are not in memory
    are read together.
    """
    count = len(queries)
    scores = np.full((count, k), np.finfo(np.float32).min, np.float32)
    rows = np.full((count, k), -1, np.int64)
    there = candidates >= 0
    ends = np.cumsum(np.count_nonzero(there, axis=1))
    asked = candidates[there]
    # In the order of the file: fewer seeks when it is cold, and equal scores in the order of rows.
    gathered = codes[asked]
    for query in range(count):
        start, end = (int(ends[query - 1]) if query else 0), int(ends[query])
        width = min(k, end - start)
        if width:
            found, places = half.scan(gathered[start:end], queries[query : query + 1], width, None)
            scores[query, :width], rows[query, :width] = found[0], asked[start:end][places[0]]
    return scores, rows


def padded(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The same with `k` columns: past the last hit the lowest float32 as score and -1 as row, as Faiss has it."""
    missing = k - rows.shape[1]
    if missing <= 0:
        return scores, rows
    lowest = np.finfo(np.float32).min
    return (
        np.pad(scores, ((0, 0), (0, missing)), constant_values=lowest),
        np.pad(rows, ((0, 0), (0, missing)), constant_values=-1),
    )
