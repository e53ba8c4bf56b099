"""A segment as one state sees it: which of its rows are still wanted."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask
from visualindex.ann.planning import Passing, everything, passing
from visualindex.ann.segment import Segment
from visualindex.filters import Filter


@dataclass(frozen=True)
class Base:
    """A segment and the rows of it that were neither replaced nor deleted since, and that belong here."""

    segment: Segment
    alive: Mask
    """bool [rows]; never changed in place."""
    live: int
    share: float = 1.0
    """Of the segment's rows those that belong here, gone or not."""

    @classmethod
    def of(cls, segment: Segment, buckets: range) -> Self:
        """The rows of some buckets."""
        alive = segment.within(buckets)
        live = int(np.count_nonzero(alive))
        return cls(segment, alive, live, live / segment.rows if segment.rows else 1.0)

    @property
    def whole(self) -> bool:
        """Whether every row is wanted."""
        return self.live == self.segment.rows

    @property
    def memory_bytes(self) -> int:
        """Bytes held, and of what is kept mapped the part that belongs here.

        After a change of the number of shards a segment is mapped by each shard that has rows in it. The pages of others'
        rows are the kernel's to take back, and counted there.
        """
        return int(self.share * self.segment.memory_bytes) + self.alive.nbytes

    def passing(self, tree: Filter | None) -> Passing:
        """The wanted rows that pass the filter."""
        if tree is None:
            return everything(self.alive, self.live)
        return passing(self.segment.remembered.left_by(tree), self.alive, self.live)

    def find(self, ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The wanted row of each id (uint8 [m, 16]), int64 [m]; -1 where there is none."""
        rows = self.segment.find(ids)
        there = np.flatnonzero(rows >= 0)
        rows[there[~self.alive[rows[there]]]] = -1
        return rows

    def without(self, rows: NDArray[np.int64]) -> Self:
        """The same without `rows`, which are wanted here, int64 [m]."""
        if not len(rows):
            return self
        alive = self.alive.copy()
        alive[rows] = False
        return replace(self, alive=alive, live=self.live - len(rows))
