"""What a search returns, and the one order all shards and replicas give it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """The best rows of each of `q` queries, best first; equal scores are ordered by id."""

    ids: NDArray[np.uint8]
    """Image ids, uint8 [q, k, 16]; zeros past a query's count."""
    scores: NDArray[np.float32]
    """Cosine similarities, float32 [q, k]; -inf past a query's count."""
    counts: NDArray[np.int64]
    """Hits of each query, int64 [q], at most k."""
    versions: NDArray[np.int64]
    """The version of each hit's image that was found, int64 [q, k]; zeros past a query's count."""

    @staticmethod
    def none(queries: int, k: int) -> "Hits":
        """The answer without hits for `queries` queries."""
        return Hits(
            np.zeros((queries, k, 16), np.uint8),
            np.full((queries, k), -np.inf, np.float32),
            np.zeros(queries, np.int64),
            np.zeros((queries, k), np.int64),
        )

    @staticmethod
    def of_one(
        ids: NDArray[np.uint8], scores: NDArray[np.float32], versions: NDArray[np.int64], k: int
    ) -> "Hits":
        """The answer to one query: at most `k` hits in their order, filled up to `k`."""
        count = len(scores)
        if count == k:
            return Hits(ids[None], scores[None], np.array([count], np.int64), versions[None])
        hits = Hits.none(1, k)
        hits.ids[0, :count], hits.scores[0, :count], hits.versions[0, :count] = ids, scores, versions
        hits.counts[0] = count
        return hits

    @staticmethod
    def joined(parts: Sequence["Hits"]) -> "Hits":
        """The answers to the queries of all parts, one part after the other; `k` is the same in each."""
        return Hits(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.versions for part in parts]),
        )


def merge_hits(parts: Sequence[Hits], k: int) -> Hits:
    """The best `k` of the answers of several shards to the same queries, whatever the order of `parts`.

    An image that several parts hold, as while shards move, counts once with its best score. Raises `ValueError` when
    there are no parts or they answer different numbers of queries.
    """
    queries = {len(part.counts) for part in parts}
    if len(queries) != 1:
        raise ValueError(
            f"merge_hits needs answers to the same queries, got parts of {sorted(queries)} queries"
        )
    asked: list[NDArray[np.int64]] = []
    ids: list[NDArray[np.uint8]] = []
    scores: list[NDArray[np.float32]] = []
    versions: list[NDArray[np.int64]] = []
    for part in parts:
        filled = np.arange(part.scores.shape[1]) < part.counts[:, None]
        asked.append(np.nonzero(filled)[0])
        ids.append(part.ids[filled])
        scores.append(part.scores[filled])
        versions.append(part.versions[filled])
    joined = np.concatenate
    return rank(joined(asked), joined(ids), joined(scores), joined(versions), queries.pop(), k)


def rank(
    asked: NDArray[np.int64],
    ids: NDArray[np.uint8],
    scores: NDArray[np.float32],
    versions: NDArray[np.int64],
    queries: int,
    k: int,
) -> Hits:
    """Order candidates into `Hits`: candidate i answers query `asked[i]` with `ids[i]` (uint8 [n, 16]) at `scores[i]`."""
    high, low = id_words(ids)
    order = np.lexsort((low, high, -scores, asked))
    order = order[_first_of_each(asked[order], high[order], low[order])]
    asked, ids, scores, versions = asked[order], ids[order], scores[order], versions[order]
    starts = np.searchsorted(asked, np.arange(queries + 1))
    place = np.arange(len(asked)) - starts[asked]
    kept = place < k
    hits = Hits.none(queries, k)
    hits.ids[asked[kept], place[kept]] = ids[kept]
    hits.scores[asked[kept], place[kept]] = scores[kept]
    hits.versions[asked[kept], place[kept]] = versions[kept]
    hits.counts[:] = np.minimum(np.diff(starts), k)
    return hits


def best(ids: NDArray[np.uint8], scores: NDArray[np.float32], k: int) -> NDArray[np.int64] | slice:
    """The places of one query's best `k` candidates in the order of hits; no two of them are the same image."""
    if np.count_nonzero(scores[1:] < scores[:-1]) == len(scores) - 1:  # as indexes give them, and no two tie
        return slice(k)
    high, low = id_words(ids)
    return np.lexsort((low, high, -scores))[:k]


def id_words(ids: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The halves of ids, uint8 [n, 16], as numbers that sort like them."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def _first_of_each(
    asked: NDArray[np.int64], high: NDArray[np.uint64], low: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Which candidates, given best first, are the first of their image for their query."""
    by_image = np.lexsort((low, high, asked))
    again = (
        (np.diff(asked[by_image]) == 0)
        & (high[by_image][1:] == high[by_image][:-1])
        & (low[by_image][1:] == low[by_image][:-1])
    )
    first = np.ones(len(asked), np.bool_)
    first[by_image[1:][again]] = False
    return first
