"""How a state is searched: exactly where that is cheap, by an index where it is not, and never short."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.base import Base
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families import Ann, Effort
from visualindex.ann.graph import Graph
from visualindex.ann.planning import Passing, Way, way
from visualindex.ann.state import State

Scored = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""The query each candidate answers, its row and its score."""

_NOTHING: Scored = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class PartPlan(NamedTuple):
    """What `explain` tells of one part of a shard."""

    part: str
    way: Way
    rows: int
    estimated: tuple[int, int]
    matches: int


class Candidates:
    """Rows of any part that may be hits: parallel arrays of n, of each query best first within each part."""

    def __init__(self, scored: Sequence[Scored], plans: Sequence[PartPlan]) -> None:
        """`scored` is what was found in each part: in the bases in order, then among the fresh rows."""
        self.plans = tuple(plans)
        self._scored = scored
        holding = [part for part, one in enumerate(scored) if len(one[1])]
        self.only_part = holding[0] if len(holding) == 1 else None
        """The part that all candidates are of, if they are of one."""
        self.asked, self.row, self.score = _joined([scored[part] for part in holding])
        """The query each answers, int64; its row within its part, int64; its cosine similarity, float32."""

    @cached_property
    def part(self) -> NDArray[np.int64]:
        """Number of the part of each."""
        return np.arange(len(self._scored)).repeat([len(one[1]) for one in self._scored])


class Settings(NamedTuple):
    """What decides how a part is searched."""

    exact_up_to: int
    """Rows that pass a filter up to which they are scored one by one."""
    ef_search: int
    """Candidate list of the graph over fresh rows."""
    exact: bool = False
    """Whether indexes are left aside: every row that passes is scored."""


def search_state(
    state: State, queries: NDArray[np.float32], k: int, found: Sequence[Passing], settings: Settings
) -> Candidates:
    """At least the best `k` of the passing rows for each normalised query, float32 [q, dimension].

    `found` is what `State.selected` told.
    """
    scored: list[Scored] = []
    plans: list[PartPlan] = []
    for number, (base, passed) in enumerate(zip(state.bases, found, strict=False)):
        chosen = way(
            passed,
            base.segment.rows,
            k,
            indexed=base.segment.effort is not None and not settings.exact,
            exact_up_to=0,  # a segment's index knows itself when scanning is cheaper
        )
        candidates, taken = _in_base(base, queries, k, passed, chosen)
        scored.append(candidates)
        plans.append(_plan(f"base {number}", taken, base.segment.rows, passed))
    indexed = state.graph is not None and not settings.exact
    chosen = way(found[-1], state.rows, k, indexed=indexed, exact_up_to=settings.exact_up_to)
    candidates, taken = _in_fresh(state, queries, k, found[-1], chosen, settings)
    scored.append(candidates)
    plans.append(_plan("fresh", taken, state.rows, found[-1]))
    return Candidates(scored, plans)


def _joined(scored: Sequence[Scored]) -> Scored:
    """All candidates one after another."""
    if len(scored) <= 1:
        return scored[0] if scored else _NOTHING
    asked, rows, scores = (np.concatenate(column) for column in zip(*scored, strict=True))
    return asked, rows, scores


def _plan(part: str, taken: Way, rows: int, passed: Passing) -> PartPlan:
    return PartPlan(part, taken, rows, (passed.least, passed.most), passed.count)


def _in_base(
    base: Base, queries: NDArray[np.float32], k: int, passed: Passing, chosen: Way
) -> tuple[Scored, Way]:
    """What was found by the chosen way, or by the one that was taken in its place."""
    segment = base.segment
    effort = segment.effort
    if segment.ann is None or effort is None or chosen in (Way.NOTHING, Way.SURVIVORS, Way.SCAN):
        return _exact(segment.codes, queries, k, passed), chosen
    if (
        chosen is Way.POST_FILTERED and effort.nprobe is None
    ):  # lists near a query may hold nothing that passes
        found = _post_filtered(segment.ann, effort, queries, k, passed)
        if found is not None:
            return found
    mask = None if chosen is Way.INDEX else passed.mask
    scores, rows, taken = segment.ann.look(queries, k, mask, effort)
    return _listed(scores, rows), taken


def _post_filtered(
    ann: Ann, effort: Effort, queries: NDArray[np.float32], k: int, passed: Passing
) -> tuple[Scored, Way] | None:
    """Hits of the whole index without those that do not pass; None where too few of a query's are left.

    They are to be among the first: towards the end of what an index finds there are gaps.
    """
    assert passed.mask is not None  # noqa: S101 - some rows do not pass, and they are many
    scores, rows, taken = ann.look(queries, min(2 * k, ann.rows), None, effort)
    passing = (rows >= 0) & passed.mask[rows]
    if (np.count_nonzero(passing[:, : k + k // 2], axis=1) < min(k, passed.count)).any():
        return None
    asked, places = np.nonzero(passing)
    found = asked, rows[asked, places], scores[asked, places]
    return found, Way.POST_FILTERED if taken is Way.INDEX else taken


def _in_fresh(
    state: State, queries: NDArray[np.float32], k: int, passed: Passing, chosen: Way, settings: Settings
) -> tuple[Scored, Way]:
    """What was found by the chosen way, or by the one that was taken in its place; the tail is scanned besides."""
    if not passed.count:
        return _NOTHING, chosen
    keep = _mask(passed, state.rows)
    parts = [_scan(state.tail_codes, queries, k, None if keep is None else keep[state.base :], state.base)]
    if state.graph:
        first = None if keep is None else keep[: state.base]
        if chosen in (Way.INDEX, Way.POST_FILTERED, Way.FILTERED_INDEX):
            found, chosen = _by_graph(state.graph, queries, k, first, settings.ef_search)
            parts.append(found)
        else:
            parts.append(_scan(state.graph.codes, queries, k, first, 0))
    return _joined(parts), chosen


def _listed(scores: NDArray[np.float32], rows: NDArray[np.int64], first: int = 0) -> Scored:
    """What was found for each query, float32 and int64 [q, k], as candidates; rows count from `first`."""
    if len(rows) == 1:
        count = rows.shape[1]
        if rows[0, -1] < 0:  # what was not found comes last
            count = int(np.count_nonzero(rows >= 0))
        named = rows[0, :count] + first if first else rows[0, :count]
        return np.zeros(count, np.int64), named, scores[0, :count]
    asked, places = np.nonzero(rows >= 0)
    return asked, rows[asked, places] + first, scores[asked, places]


def _mask(passed: Passing, rows: int) -> Mask | None:
    """The rows that pass, bool [rows]; None for all."""
    if passed.rows is None:
        return passed.mask
    mask = np.zeros(rows, np.bool_)
    mask[passed.rows] = True
    return mask


def _by_graph(
    graph: Graph, queries: NDArray[np.float32], k: int, keep: Mask | None, ef_search: int
) -> tuple[Scored, Way]:
    matching = _kept(keep, graph.rows)
    if matching <= 4 * k:
        way = Way.SCAN if keep is None else Way.SURVIVORS
        return _scan(graph.codes, queries, k, keep, 0), way
    whole = matching == graph.rows
    scores, rows = graph.search(queries, k, None if whole else keep, ef_search)
    found, short = _listed(scores, rows), np.flatnonzero(rows[:, -1] < 0)
    if not len(short):
        return found, Way.INDEX if whole else Way.FILTERED_INDEX
    # The graph lost its way among rows that do not match: the answer must still be whole.
    again, exact_rows, exact_scores = _scan(graph.codes, queries[short], k, keep, 0)
    asked, listed, exact = found
    kept = ~np.isin(asked, short)
    whole_answer = (
        np.concatenate([asked[kept], short[again]]),
        np.concatenate([listed[kept], exact_rows]),
        np.concatenate([exact[kept], exact_scores]),
    )
    return whole_answer, Way.INDEX_THEN_SCAN


def _exact(codes: Codes, queries: NDArray[np.float32], k: int, passed: Passing) -> Scored:
    if passed.rows is None:
        return _scan(codes, queries, k, _mask(passed, len(codes)), 0)
    asked, places, scores = _scan(codes.take(passed.rows, 0), queries, k, None, 0)
    return asked, passed.rows[places], scores


def _kept(keep: Mask | None, rows: int) -> int:
    return rows if keep is None else int(np.count_nonzero(keep))


def _scan(codes: Codes, queries: NDArray[np.float32], k: int, keep: Mask | None, first: int) -> Scored:
    """The best `k` kept rows and all that tie with the last of them, so that every replica cuts ties alike."""
    matching = _kept(keep, len(codes))
    if not matching or not k or not len(queries):
        return _NOTHING
    selected, width = (None if matching == len(codes) else keep), min(k + 1, matching)
    while True:
        scores, rows = half.scan(codes, queries, width, selected)
        if width == matching or not np.count_nonzero(scores[:, k - 1] == scores[:, width - 1]):
            break
        width = min(width * 4, matching)
    return _listed(scores, rows, first)
