"""All that one search sees of a shard, as a value: a writer makes the next state and publishes it whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attributes import AttributeIndex
from visualindex.ann.base import Base
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.graph import Graph
from visualindex.ann.planning import Passing, everything, left_by, passing
from visualindex.filters import Filter

ROW_OBJECT_BYTES = 200
"""A row's id in the dictionary: the key, the row number and the slot."""


@dataclass(frozen=True)
class State:
    """The segments of a generation, and the fresh rows that came since, in their order: first those the graph covers,
    then the tail that is scanned. An image is wanted in one place at most.

    The arrays of fresh rows may be longer than `rows`: a writer appends behind, where no reader of this state looks.
    `row_of` is the writer's and shared by successive states.
    """

    rows: int
    live: int
    ids: NDArray[np.uint8]
    versions: NDArray[np.int64]
    alive: Mask
    graph: Graph | None
    tail: Codes
    row_of: dict[bytes, int]
    attributes: AttributeIndex
    bases: tuple[Base, ...] = ()

    @property
    def images(self) -> int:
        """Images that can be found."""
        return self.live + sum(base.live for base in self.bases)

    @cached_property
    def wanted(self) -> tuple[Passing, ...]:
        """The rows of each part that are wanted: of the bases in order, then of the fresh rows."""
        return (*(base.passing(None) for base in self.bases), everything(self.alive, self.live))

    @cached_property
    def identities(self) -> tuple[tuple[NDArray[np.uint8], NDArray[np.int64]], ...]:
        """Ids uint8 [n, 16] and versions int64 [n] of the rows of each part."""
        bases = ((base.segment.ids, base.segment.versions) for base in self.bases)
        return (*bases, (self.ids, self.versions))

    def selected(self, tree: Filter | None) -> tuple[Passing, ...]:
        """The wanted rows of each part that pass the filter."""
        if tree is None:
            return self.wanted
        if not self.live:
            fresh = self.wanted[-1]
        else:
            fresh = passing(left_by(self.attributes, tree, self.rows), self.alive, self.live)
        return (*(base.passing(tree) for base in self.bases), fresh)

    def codes_of(self, part: int, rows: NDArray[np.int64]) -> Codes:
        """The codes of rows of one part: of a base by its number, else of the fresh rows."""
        if part < len(self.bases):
            codes: Codes = self.bases[part].segment.codes[rows]
            return codes
        codes = np.empty((len(rows), self.tail.shape[1]), np.uint8)
        sealed = rows < self.base
        if self.graph:
            codes[sealed] = self.graph.codes[rows[sealed]]
        codes[~sealed] = self.tail[rows[~sealed] - self.base]
        return codes

    @property
    def base(self) -> int:
        """Fresh rows the graph covers."""
        return self.graph.rows if self.graph else 0

    @property
    def tail_codes(self) -> Codes:
        """The codes of the rows behind the graph, uint8 [rows - base, 2 * dimension]."""
        return self.tail[: self.rows - self.base]

    @property
    def memory_bytes(self) -> int:
        """Bytes held and kept mapped: arrays exactly, Python objects estimated."""
        bases = sum(base.memory_bytes for base in self.bases)
        arrays = self.ids.nbytes + self.versions.nbytes + self.alive.nbytes + self.tail.nbytes
        graph = self.graph.codes.nbytes + self.graph.memory_bytes if self.graph else 0
        return bases + arrays + graph + ROW_OBJECT_BYTES * len(self.row_of) + self.attributes.memory_bytes


def empty(dimension: int, bases: tuple[Base, ...] = ()) -> State:
    """The state of a shard without fresh rows."""
    return State(
        rows=0,
        live=0,
        ids=np.zeros((0, 16), np.uint8),
        versions=np.zeros(0, np.int64),
        alive=np.zeros(0, np.bool_),
        graph=None,
        tail=np.zeros((0, 2 * dimension), np.uint8),
        row_of={},
        attributes=AttributeIndex(),
        bases=bases,
    )


def appended(
    state: State,
    ids: NDArray[np.uint8],
    versions: NDArray[np.int64],
    codes: Codes,
    flat: Sequence[Mapping[str, Any]],
    replaced: Sequence[int],
) -> State:
    """The state with further rows, whose flattened attributes are `flat`, and the `replaced` rows dead."""
    rows, count = state.rows + len(ids), len(ids)
    grown = roomy(state, rows)
    grown.ids[state.rows : rows] = ids
    grown.versions[state.rows : rows] = versions
    grown.tail[state.rows - state.base : rows - state.base] = codes
    grown.attributes.append(state.rows, flat)
    alive = np.concatenate([state.alive, np.ones(count, np.bool_)])
    alive[replaced] = False
    return replace(grown, rows=rows, live=state.live + count - len(replaced), alive=alive)


def capacity_for(state: State, rows: int) -> int:
    """Rows the arrays hold once they have taken `rows`."""
    return len(state.ids) if rows <= len(state.ids) else max(256, rows, len(state.ids) + len(state.tail) // 4)


def roomy(state: State, rows: int) -> State:
    """The state with arrays that can hold `rows`."""
    capacity = capacity_for(state, rows)
    if capacity == len(state.ids):
        return state
    return replace(
        state,
        ids=_resized(state.ids, state.rows, capacity),
        versions=_resized(state.versions, state.rows, capacity),
        tail=_resized(state.tail, state.rows - state.base, capacity - state.base),
    )


def without(state: State, rows: Sequence[int]) -> State:
    """The state with `rows`, which are alive in it, dead."""
    alive = state.alive.copy()
    alive[rows] = False
    return replace(state, alive=alive, live=state.live - len(rows))


def without_in_bases(state: State, doomed: Sequence[NDArray[np.int64]]) -> State:
    """The state with rows of its bases, int64 [m] for each base, no longer wanted."""
    pairs = zip(state.bases, doomed, strict=True)
    return replace(state, bases=tuple(base.without(rows) for base, rows in pairs))


def folded(state: State, graph: Graph) -> State:
    """The state after `graph` has grown over the first rows of the tail. No row changes its number."""
    return replace(
        state,
        graph=graph,
        ids=state.ids[: state.rows].copy(),
        versions=state.versions[: state.rows].copy(),
        tail=state.tail[graph.rows - state.base : state.rows - state.base].copy(),
    )


def compacted(state: State, kept: NDArray[np.int64], seen: int, graph: Graph | None, head: Codes) -> State:
    """The state without the dead among its first `seen` rows; rows that came later follow as they are.

    `kept` lists the rows below `seen` to keep, ascending, int64 [n]; `head` holds their codes, or `graph` covers them.
    """
    order = np.concatenate([kept, np.arange(seen, state.rows)])
    places = np.full(state.rows, -1, np.int64)
    places[order] = np.arange(len(order))
    late = state.tail[seen - state.base : state.rows - state.base]
    row_of = {key: int(places[row]) for key, row in state.row_of.items()}
    return State(
        rows=len(order),
        live=state.live,
        ids=state.ids[order],
        versions=state.versions[order],
        alive=state.alive[order],
        graph=graph,
        tail=late.copy() if graph else np.concatenate([head, late]),
        row_of=row_of,
        attributes=state.attributes.renumbered(places),
        bases=state.bases,
    )


def _resized(array: NDArray[Any], rows: int, capacity: int) -> NDArray[Any]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[:rows] = array[:rows]
    return larger
