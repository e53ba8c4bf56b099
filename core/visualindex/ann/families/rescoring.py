"""Exact scores of candidates, by the kernel that scans, so that an image scores the same wherever it is found."""

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes


def rescored(
    codes: Codes, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `k` of each query's candidates: scores float32 [q, k], rows int64 [q, k], -1 where there are fewer.

    `candidates` is int64 [q, c], -1 where there is none.
    """
    scores = np.full((len(queries), k), np.finfo(np.float32).min, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for query, named in enumerate(candidates):
        asked = named[named >= 0]
        width = min(k, len(asked))
        if width:
            found, places = half.scan(codes[asked], queries[query : query + 1], width, None)
            scores[query, :width], rows[query, :width] = found[0], asked[places[0]]
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
