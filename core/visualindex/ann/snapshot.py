"""What a shard index held at one moment: searched twice, by its indexes and exactly, it tells what the indexes miss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.asking import Ask, Looked
from visualindex.ann.changes import normalised
from visualindex.ann.holding import HeldRows, held_rows
from visualindex.ann.looking import look
from visualindex.ann.searching import Settings
from visualindex.ann.state import State


@dataclass(frozen=True)
class Snapshot:
    """One published state, and how it is searched."""

    state: State
    dimension: int
    exact_up_to: int
    ef_search: int

    def look(self, queries: NDArray[np.floating[Any]], ask: Ask, *, exact: bool = False) -> Looked:
        """The hits of each query, float32 [q, dimension]; of grouping and sorting one query at a time.

        `exact` leaves the indexes aside and scores every row that passes the filter. Raises
        `ProblemError(INVALID_REQUEST)` for queries of the wrong shape or without a direction.
        """
        wanted = normalised(queries, self.dimension, "queries")
        return look(self.state, wanted, ask, Settings(self.exact_up_to, self.ef_search, exact))

    def held(self, buckets: NDArray[np.bool_] | None = None) -> Iterator[HeldRows]:
        """Everything that can be found, in slices; of some `buckets`, bool [1024], alone if given."""
        return held_rows(self.state, buckets)
