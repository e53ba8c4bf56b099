"""Filtered search of a graph: walked as if there were no filter, further and further, until enough rows that pass lie near.

A filter may leave out just the surroundings of a query ("not these categories"). A walk that skips rows on its way cannot
tell how near it came: it ends among the first rows that pass, wherever they lie. One that lists all rows in their order
knows that none was left out before the last hit.
"""

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask

_faiss: Any = faiss  # its stubs do not know what its classes gain at import

_LONGER = 4
_SPARE = 1.5
_LEAST_PER_RANK, _MOST_PER_RANK = 2.0, 4.0
TUNED_HITS = 10
"""Hits for which efforts are tuned."""
ROWS_PER_CANDIDATE = 0.4
"""Rows that a scan scores while a graph of m links handles one candidate, divided by m: it scores 0.75 m rows for it, each
in half the time of a row that is gathered for a scan (512 dimensions)."""


class Walk(NamedTuple):
    """How far to walk."""

    per_rank: float
    """Length of the candidate list for each rank down to the last hit: near its end a list is full of gaps."""
    first: int
    most: int
    """Beyond this length a scan of the rows that pass is cheaper."""

    @classmethod
    def of(cls, ef_search: int, hits: int, rows: int, kept: int, links: int) -> "Walk":
        """The walk to `hits` of `kept` rows out of `rows`, in a graph of so many `links` (m).

        `ef_search` is the length that suits ten hits of all rows.
        """
        widening = rows / kept
        per_rank = min(max(ef_search / TUNED_HITS, _LEAST_PER_RANK), _MOST_PER_RANK)
        first = max(ef_search * widening, _SPARE * per_rank * hits * widening)
        return cls(per_rank, int(first), int(kept / (ROWS_PER_CANDIDATE * links)))


def walk(
    index: Any, queries: NDArray[np.float32], hits: int, keep: Mask, how: Walk
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `hits` kept rows (bool [rows]) of each query: scores float32 [q, hits], rows int64 [q, hits].

    All rows are -1 for queries that would have to be walked further than is worth it.
    """
    scores = np.full((len(queries), hits), -np.inf, np.float32)
    rows = np.full((len(queries), hits), -1, np.int64)
    pending, length = np.arange(len(queries)), how.first
    while len(pending) and length <= how.most:
        length = min(length, len(keep))
        parameters = _faiss.SearchParametersHNSW(efSearch=length)
        near_scores, near = index.search(queries[pending], length, params=parameters)
        passing = (near >= 0) & keep[near]
        sure = np.count_nonzero(passing[:, : int(length / how.per_rank)], axis=1) >= hits
        for at in np.flatnonzero(sure).tolist():
            places = np.flatnonzero(passing[at])[:hits]
            scores[pending[at]], rows[pending[at]] = near_scores[at, places], near[at, places]
        pending = pending[~sure]
        if length == len(keep):
            break
        length *= _LONGER
    return scores, rows
