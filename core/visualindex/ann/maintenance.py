"""When a shard's rows are worth reordering, and how that is done beside searches and writes."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import graph as graphs
from visualindex.ann.codes import Codes
from visualindex.ann.graph import Graph
from visualindex.ann.state import State, compacted, folded
from visualindex.spec.models import HnswSpec


class Work(Enum):
    """What a state needs done."""

    COMPACT = "compact"
    """Drop the dead rows; what is left is scanned."""
    BUILD = "build"
    """Drop the dead rows and build a graph over the others."""
    EXTEND = "extend"
    """Add the tail to the graph."""


@dataclass(frozen=True)
class Plan:
    """How an index of this size is kept in shape."""

    flat_below: int
    hnsw: HnswSpec

    @property
    def slack(self) -> int:
        """Dead rows that are not worth a pass over the others."""
        return max(16, self.flat_below // 4)

    def due(self, state: State, *, cramped: bool = False) -> Work | None:
        """The most useful work on this state, if any is worth its cost; if `cramped`, every dead row is in the way."""
        dead = state.rows - state.live
        slack = 0 if cramped else self.slack
        if state.graph is None:
            if state.live > self.flat_below:
                return Work.BUILD
            return Work.COMPACT if dead > slack else None
        if dead > (0 if cramped else max(slack, state.rows // 4)):
            # Well below the bound, so that an index about as large as the bound does not go to and fro.
            return Work.BUILD if state.live > self.flat_below - self.slack else Work.COMPACT
        return Work.EXTEND if state.rows - state.base > 2 * self.slack else None


Finish = Callable[[State], State]
"""Makes a later state of the same rows, whatever writers did meanwhile, into the improved one."""


def prepared(work: Work, state: State, hnsw: HnswSpec, wanted: Callable[[], bool], threads: int) -> Finish:
    """Do the long part of the work on `state`; what is returned is short and belongs under the writers' lock.

    Raises `visualindex.ann.graph.Abandoned` soon after `wanted` turns false.
    """
    if work is Work.EXTEND and state.graph:
        codes = np.concatenate([state.graph.codes, state.tail_codes])
        grown = graphs.extended(state.graph, codes, wanted, threads)
        return lambda later: folded(later, grown)
    kept = np.flatnonzero(state.alive)
    codes = _codes_of(state, kept)
    built = graphs.build(codes, hnsw, wanted, threads) if work is Work.BUILD and len(codes) else None
    return _compaction(kept, state.rows, built, codes)


def _compaction(kept: NDArray[np.int64], seen: int, built: Graph | None, codes: Codes) -> Finish:
    return lambda later: compacted(later, kept, seen, built, codes)


def _codes_of(state: State, rows: NDArray[np.int64]) -> Codes:
    split = int(np.searchsorted(rows, state.base))
    tail = state.tail[rows[split:] - state.base]
    return np.concatenate([state.graph.codes[rows[:split]], tail]) if state.graph else tail
