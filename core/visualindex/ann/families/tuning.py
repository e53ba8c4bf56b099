"""Choosing how hard to search: recall measured against exact search, by rows the index does not hold yet.

Held-out rows are asked for like pictures of users: they come from the same collection, and asking for a row that the
index holds would find at least itself. Once the effort is chosen they are added too.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes
from visualindex.ann.families.base import Approximate, Effort, Found, Parameters
from visualindex.ann.families.building import Building
from visualindex.ann.families.ladders import ladder
from visualindex.ann.graph import Abandoned
from visualindex.identity import scattered

MOST_QUERIES = 1000
_ENOUGH = 0.998
"""Recall beyond which more effort is not measured, unless more is asked for."""
_MARGIN = 2.0
"""Standard errors by which the recall of the chosen effort lies above the target: one is too few in one case of six."""


@dataclass(frozen=True)
class Measured:
    """One point of the curve."""

    effort: Effort
    recall: float
    """Share of the true neighbours that were found."""
    deviation: float
    """Standard error of `recall`: another sample of queries differs by about that much."""
    latency_ms: float
    """Median CPU time of one query on one thread, as long as the query takes on a core of its own."""

    @property
    def surely(self) -> float:
        """What other queries from the same collection find nearly always."""
        return self.recall - _MARGIN * self.deviation


@dataclass(frozen=True)
class RecallReport:
    """What was measured while an index was built, and what was chosen by it."""

    target: float
    k: int
    queries: int
    chosen: Effort
    recall: float
    met: bool
    curve: tuple[Measured, ...]
    """From the least effort to the most; efforts that found no more than a lesser one are left out."""
    exact_latency_ms: float
    """Median of one query by exact search on one thread."""


def held_out(rows: int) -> int:
    """How many rows ask while an index of `rows` rows is tuned."""
    return min(MOST_QUERIES, rows // 10)


def held_out_last(ids: NDArray[np.uint8], seed: int = 0) -> NDArray[np.int64]:
    """An order of rows, int64 [n], whose last `held_out(n)` are a sample drawn by `seed` from the ids, uint8 [n, 16].

    Which rows those are depends on the ids alone. The others stay as they are.
    """
    count = held_out(len(ids))
    if not count:
        return np.arange(len(ids), dtype=np.int64)
    words = np.ascontiguousarray(ids).view("<u8").astype(np.uint64)
    drawn = np.sort(np.lexsort((words[:, 1], words[:, 0], scattered(ids, seed)))[:count])
    return np.concatenate([np.setdiff1d(np.arange(len(ids)), drawn), drawn])


def build_and_tune(
    family: str,
    codes: Codes,
    target_recall: float,
    parameters: Parameters,
    *,
    k: int = 10,
    wanted: Callable[[], bool] = lambda: True,
    threads: int = 1,
) -> tuple[Approximate, RecallReport]:
    """An index over all of `codes`, and the least effort that reaches `target_recall` at `k`.

    The last `held_out(n)` rows of `codes` are the queries (see `held_out_last`). The choice goes by the order of the
    ladder of efforts and by recall, never by measured time, so that the same rows are given the same effort. Raises
    `Abandoned` soon after `wanted` turns false.
    """
    building = Building(family, codes, parameters, threads)
    indexed = len(codes) - held_out(len(codes))
    building.grow(indexed, wanted)
    queries = half.decode(np.ascontiguousarray(codes[indexed:]))
    report = _measure(building.searchable(), queries, min(k, indexed), target_recall, wanted)
    building.grow(len(codes), wanted)
    return building.searchable(report.chosen), report


def _measure(
    index: Approximate, queries: NDArray[np.float32], k: int, target: float, wanted: Callable[[], bool]
) -> RecallReport:
    efforts = ladder(index.family, index.rows, index.dimension, index.parameters)
    if not len(queries):
        # So few rows are scanned whatever the effort.
        return RecallReport(target, k, 0, efforts[-1], 1.0, True, (), 0.0)
    exact, exact_ms = _one_by_one(queries, lambda query: half.scan(index.codes, query, k, None), wanted)
    curve: list[Measured] = []
    for effort in efforts:
        point = _point(index, queries, k, effort, exact, wanted)
        if not curve or point.recall > curve[-1].recall:
            curve.append(point)
        if point.surely >= target and point.recall >= _ENOUGH:
            break
    chosen = _chosen(curve, target)
    return RecallReport(
        target, k, len(queries), chosen.effort, chosen.recall, chosen.recall >= target, tuple(curve), exact_ms
    )


def _point(
    index: Approximate,
    queries: NDArray[np.float32],
    k: int,
    effort: Effort,
    exact: NDArray[np.float32],
    wanted: Callable[[], bool],
) -> Measured:
    scores, latency = _one_by_one(queries, lambda query: index.search(query, k, None, effort), wanted)
    # By score and not by row: of rows that tie with the last hit any is as good.
    shares = np.count_nonzero(scores >= exact[:, -1:], axis=1) / k
    deviation = float(np.std(shares)) / len(shares) ** 0.5
    return Measured(effort, float(np.mean(shares)), deviation, latency)


def _one_by_one(
    queries: NDArray[np.float32], search: Callable[[NDArray[np.float32]], Found], wanted: Callable[[], bool]
) -> tuple[NDArray[np.float32], float]:
    """Scores of every query, float32 [q, k], and the median milliseconds of one."""
    scores, times = [], []
    for query in range(len(queries)):
        if not wanted():
            raise Abandoned
        start = time.thread_time()
        scores.append(search(queries[query : query + 1])[0])
        times.append(time.thread_time() - start)
    return np.concatenate(scores), statistics.median(times) * 1e3


def _chosen(curve: list[Measured], target: float) -> Measured:
    """The cheapest that would reach the target with other queries too, or else the best."""
    for point in curve:
        if point.surely >= target:
            return point
    return curve[-1]
