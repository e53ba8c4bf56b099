"""How a state is searched: exactly where that is cheap, by the graph where it is not, and never short."""

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.graph import Graph
from visualindex.ann.hits import Hits, rank
from visualindex.ann.state import State

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Candidates: the query each answers, its row and its score."""


def search_state(
    state: State, queries: NDArray[np.float32], k: int, keep: Mask, *, ef_search: int, exact_up_to: int
) -> Hits:
    """The best `k` rows of `keep` (bool [rows]) for each normalised query, float32 [q, dimension].

    At most `exact_up_to` kept rows of the graph are scanned instead of searched by the graph.
    """
    parts = [_exact(state.tail_codes, queries, k, keep[state.base :], state.base)]
    if state.graph:
        parts.append(_base(state.graph, queries, k, keep[: state.base], ef_search, exact_up_to))
    asked, rows, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Half precision lengthens a vector by up to 1e-4: a cosine above one would only puzzle.
    scores = np.minimum(scores, np.float32(1))
    return rank(asked, state.ids[rows], scores, state.versions[rows], len(queries), k)


def _base(
    graph: Graph, queries: NDArray[np.float32], k: int, keep: Mask, ef_search: int, exact_up_to: int
) -> Found:
    matching = int(np.count_nonzero(keep))
    if matching <= max(exact_up_to, 4 * k):
        return _exact(graph.codes, queries, k, keep, 0)
    scores, rows = graph.search(queries, k, None if matching == len(keep) else keep, ef_search)
    short = np.flatnonzero((rows < 0).any(axis=1))
    asked, places = np.nonzero(rows >= 0)
    found = asked, rows[asked, places], scores[asked, places]
    if not len(short):
        return found
    # The graph lost its way among rows that do not match: the answer must still be whole.
    again, exact_rows, exact_scores = _exact(graph.codes, queries[short], k, keep, 0)
    kept = ~np.isin(asked, short)
    return (
        np.concatenate([asked[kept], short[again]]),
        np.concatenate([found[1][kept], exact_rows]),
        np.concatenate([found[2][kept], exact_scores]),
    )


def _exact(codes: Codes, queries: NDArray[np.float32], k: int, keep: Mask, first: int) -> Found:
    """The best `k` kept rows and all that tie with the last of them, so that every replica cuts ties alike."""
    matching = int(np.count_nonzero(keep))
    if not matching or not k or not len(queries):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    selected, width = (None if matching == len(keep) else keep), min(k + 1, matching)
    while True:
        scores, rows = half.scan(codes, queries, width, selected)
        if width == matching or not (scores[:, k - 1] == scores[:, width - 1]).any():
            break
        width = min(width * 4, matching)
    asked, places = np.nonzero(rows >= 0)
    return asked, rows[asked, places] + first, scores[asked, places]
