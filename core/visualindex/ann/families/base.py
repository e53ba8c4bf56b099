"""What every index family answers to, and the rules that hold for all of them: exact scores, never a short answer."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.families.rescoring import padded, rescored
from visualindex.ann.passing_walk import TUNED_HITS as TUNED_HITS
from visualindex.ann.planning import Way
from visualindex.capacity.sizes import Parameters as Parameters

_DEEPER = 4
"""How many times as many candidates are looked at where the first ones leave a doubt."""

Found: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores float32 [q, k], best first, and rows int64 [q, k], -1 where there is none."""
_Best: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64], bool]
"""The same, and whether all kept rows were scored for some of the queries."""


@dataclass(frozen=True)
class Effort:
    """How hard a search looks: what `build_and_tune` chooses for a target recall."""

    ef_search: int | None = None
    """Length of the candidate list of a graph."""
    nprobe: int | None = None
    """Inverted lists that are read."""
    rescore: int = 1
    """Candidates per hit that are scored exactly; a graph over the exact vectors needs no more than one."""


class Ann(Protocol):
    """An approximate index over the codes of a segment."""

    family: ClassVar[str]
    effort: Effort | None
    """What tuning chose, kept with the index; None when it was never tuned."""

    @property
    def rows(self) -> int:
        """Rows that are found."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes that searches keep hot, beside the codes."""
        ...

    def search(self, queries: NDArray[np.float32], k: int, keep: Mask | None, effort: Effort) -> Found:
        """About the best `k` kept rows (bool [rows]) of each normalised query, float32 [q, dimension].

        Scores are those of `codes.scan`, bit for bit. min(k, kept) rows come back whatever the effort.
        """
        ...

    def look(
        self, queries: NDArray[np.float32], k: int, keep: Mask | None, effort: Effort
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Way]:
        """What `search` finds, and the way that was taken for it; of several queries the dearest."""
        ...

    def write(self, directory: Path) -> None:
        """Write `ann.faiss` and `ann.json`."""
        ...


class Wanted(NamedTuple):
    """One search as an index family sees it."""

    effort: Effort
    hits: int
    depth: int
    """Candidates of each query."""
    widening: float
    """Rows of the index per kept row: how many more rows lie nearer than the last hit than without a mask."""

    @classmethod
    def of(cls, hits: int, rows: int, kept: int, effort: Effort) -> Self:
        """The best `hits` of `kept` rows out of `rows`."""
        widening = rows / kept
        # Kept rows that are thin on the ground lie further out, where compressed codes tell them apart less well.
        # And of few hits the first is as hard to tell as of many.
        depth = (
            math.ceil(max(hits, TUNED_HITS) * effort.rescore * widening**0.5) if effort.rescore > 1 else hits
        )
        return cls(effort, hits, min(depth, kept), widening)

    @property
    def lengthening(self) -> float:
        """How many times as many hits are wanted as when the effort was tuned, at least one."""
        return max(1.0, self.hits / TUNED_HITS)


class Approximate(ABC):
    """The search all families share: candidates from the index, exact scores, and a scan where that is better."""

    family: ClassVar[str]

    def __init__(self, index: Any, codes: Codes, parameters: Parameters, effort: Effort | None) -> None:
        self.index = index
        self.codes = codes
        self.parameters = parameters
        self.effort = effort

    @property
    def rows(self) -> int:
        """Rows that are found: all of the segment."""
        return len(self.codes)

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self.codes.shape[1] // 2)

    def search(self, queries: NDArray[np.float32], k: int, keep: Mask | None, effort: Effort) -> Found:
        """See `Ann.search`."""
        scores, rows, _ = self.look(queries, k, keep, effort)
        return scores, rows

    def look(
        self, queries: NDArray[np.float32], k: int, keep: Mask | None, effort: Effort
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Way]:
        """See `Ann.look`."""
        kept = self.rows if keep is None else int(np.count_nonzero(keep))
        if kept == self.rows:
            keep = None
        width = min(k, kept)
        if not width or not len(queries):
            none = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
            return *padded(*none, k), Way.NOTHING
        wanted = Wanted.of(width, self.rows, kept, effort)
        if kept <= 4 * k or (keep is not None and kept <= self._scannable(wanted) + wanted.depth):
            exact = padded(*half.scan(self.codes, queries, width, keep), k)
            return *exact, Way.SCAN if keep is None else Way.SURVIVORS
        scores, rows, scanned = self._best(queries, keep, wanted)
        scanned |= self._complete(queries, keep, scores, rows)
        by_index = Way.INDEX if keep is None else Way.FILTERED_INDEX
        return *padded(scores, rows, k), Way.INDEX_THEN_SCAN if scanned else by_index

    def _best(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> _Best:
        scores, candidates = self._candidates(queries, keep, wanted)
        if self.exact:
            return scores, candidates, False
        scores, rows = rescored(self.codes, queries, candidates, wanted.hits)
        if keep is None:
            return scores, rows, False
        # What a mask leaves may lie so close together that compressed codes do not tell it apart. Then hits are all over the
        # candidates, and further ones are behind them: those queries look deeper, and at last at every row.
        late = [
            np.isin(rows[at], candidates[at, wanted.depth // 2 :]).sum() if rows[at, -1] >= 0 else 0
            for at in range(len(rows))
        ]
        unsure, scanned = np.flatnonzero(np.array(late) > wanted.hits // 10), False
        if len(unsure):
            scores[unsure], rows[unsure], scanned = self._deeper(queries[unsure], keep, wanted)
        return scores, rows, scanned

    def _deeper(self, queries: NDArray[np.float32], keep: Mask, wanted: Wanted) -> _Best:
        depth, kept = _DEEPER * wanted.depth, self.rows / wanted.widening
        if _DEEPER * depth >= kept:
            return *half.scan(self.codes, queries, wanted.hits, keep), True
        return self._best(queries, keep, wanted._replace(depth=depth))

    def _complete(
        self,
        queries: NDArray[np.float32],
        keep: Mask | None,
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> bool:
        """Scan for the queries that found too little: the index lost its way among rows that are not kept."""
        if min(rows[:, -1].tolist()) >= 0:
            return False
        short = np.flatnonzero(rows[:, -1] < 0)
        scores[short], rows[short] = half.scan(self.codes, queries[short], rows.shape[1], keep)
        return True

    faiss_class: ClassVar[str]
    """What Faiss calls the index that is in the file."""
    exact: ClassVar[bool] = False
    """Whether the scores of candidates are those of the codes already."""

    @abstractmethod
    def _candidates(self, queries: NDArray[np.float32], keep: Mask | None, wanted: Wanted) -> Found:
        """The best `wanted.depth` kept rows of each query as the index sees them."""

    @abstractmethod
    def _scannable(self, wanted: Wanted) -> float:
        """About how many kept rows could be gathered and scanned in the time that the index takes for `wanted`."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """See `Ann.memory_bytes`."""

    @abstractmethod
    def write(self, directory: Path) -> None:
        """See `Ann.write`."""
