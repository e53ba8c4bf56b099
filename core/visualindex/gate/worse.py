"""The searches that got worse, the worst first: what a person looks at before deciding otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

from visualindex.api.gate import WorseQuery

TOLD = 20
"""Of those that got worse, how many are named."""
_LAST = 11
"""The rank of an image that is not among the first ten."""


@dataclass(frozen=True)
class Bars:
    """What a single search is held to: as all of them together."""

    recall: float
    overlap: float


def worse(queries: Sequence[WorseQuery], bars: Bars, *, compared: bool) -> list[WorseQuery]:
    """Those of `queries` that are worse than before; without a generation to be `compared` with, those that fail."""
    weighed = [(_loss(one, bars, compared=compared), one) for one in queries]
    # By id where the loss is the same: the same generations give the same report.
    ordered = sorted(weighed, key=lambda each: (-each[0], each[1].image_id))
    return [one for lost, one in ordered if lost > 0]


def _loss(query: WorseQuery, bars: Bars, *, compared: bool) -> float:
    return _rank_loss(query, compared) + _precision_loss(query) + _shortfalls(query, bars)


def _rank_loss(query: WorseQuery, compared: bool) -> float:
    """How much further back the image itself is found, of ten places."""
    after = query.rank_after or _LAST
    before = (query.rank_before or _LAST) if compared else 1
    if not compared and after < _LAST:
        return 0.0  # found, and nobody knows whether it was found better before
    return max(0, after - before) / (_LAST - 1)


def _precision_loss(query: WorseQuery) -> float:
    if query.precision_before is None or query.precision_after is None:
        return 0.0
    return max(0.0, query.precision_before - query.precision_after)


def _shortfalls(query: WorseQuery, bars: Bars) -> float:
    recall = 0.0 if query.recall is None else max(0.0, bars.recall - query.recall)
    overlap = 0.0 if query.overlap is None else max(0.0, bars.overlap - query.overlap)
    return recall + overlap
