"""One shard replica's rows in memory: what it may return, and how it follows a stream of changes."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.attributes import AttributeIndex
from visualindex.ann.changes import Applied, Deletes, Upserts, check_lengths, checked_ids, normalised
from visualindex.ann.codes import Codes, Mask
from visualindex.ann.hits import Hits, rank
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import Filter
from visualindex.spec.models import HnswSpec

FORGOTTEN = 65_536
"""How many removed images keep their version, so that a late, older insert does not bring them back."""

_ID_BYTES = 200  # a row's id in the dictionary: the key, the row number and the slot


@dataclass(frozen=True)
class _State:
    """What one search sees. A writer replaces the whole; arrays only grow behind `rows`."""

    rows: int
    ids: NDArray[np.uint8]
    versions: NDArray[np.int64]
    codes: Codes
    alive: Mask
    live: int
    row_of: dict[bytes, int]
    attributes: AttributeIndex


class ShardIndex:
    """Images of one shard by cosine similarity, filtered. One writer at a time; searches run in any number of threads.

    Rows are never changed in place: a newer version of an image is a new row, and the old one is dead from the moment
    the change is published. Searches read one published state to their end, so they neither wait for writers nor see
    half of a change.
    """

    def __init__(self, dimension: int, *, flat_below: int, hnsw: HnswSpec, memory_limit: int) -> None:
        """An empty index of `dimension`-d vectors that may hold `memory_limit` bytes."""
        self.dimension = dimension
        self._flat_below = flat_below
        self._hnsw = hnsw
        self._memory_limit = memory_limit
        self._writing = threading.Lock()
        self._removed: dict[bytes, int] = {}
        self._state = _State(
            rows=0,
            ids=np.zeros((0, 16), np.uint8),
            versions=np.zeros(0, np.int64),
            codes=np.zeros((0, 2 * dimension), np.uint8),
            alive=np.zeros(0, np.bool_),
            live=0,
            row_of={},
            attributes=AttributeIndex(),
        )

    def __len__(self) -> int:
        """Live images."""
        return self._state.live

    @property
    def memory_bytes(self) -> int:
        """Bytes held: arrays exactly, Python objects estimated."""
        state = self._state
        arrays = state.ids.nbytes + state.versions.nbytes + state.codes.nbytes + state.alive.nbytes
        return arrays + _ID_BYTES * len(state.row_of) + state.attributes.memory_bytes

    def stats(self) -> dict[str, Any]:
        """Figures for metrics and the status page."""
        state = self._state
        return {
            "live": state.live,
            "dead": state.rows - state.live,
            "memory_bytes": self.memory_bytes,
            "memory_limit": self._memory_limit,
        }

    def load(self, batches: Iterable[Upserts]) -> int:
        """Take in whole batches, such as a generation's rows; returns how many rows were taken in."""
        return sum(self.apply(batch).upserted for batch in batches)

    def apply(self, upserts: Upserts | None = None, deletes: Deletes | None = None) -> Applied:
        """Publish changes at once: a search sees all of them or none.

        Applying a change again changes nothing, and an older version never replaces a newer one. Of an image that is
        both upserted and deleted, the higher version wins, and the removal if it carries none. Raises
        `ProblemError(STORAGE_FULL)` when the upserts would exceed the memory limit, and then nothing has changed:
        apply the deletes alone. Raises `ProblemError(INVALID_REQUEST)` for arrays of the wrong shape.
        """
        with self._writing:
            return self._apply(upserts, deletes)

    def _apply(self, upserts: Upserts | None, deletes: Deletes | None) -> Applied:
        state = self._state
        chosen, keys, stale = self._newer(upserts, state) if upserts else ([], [], 0)
        vectors = normalised(upserts.vectors, self.dimension, "vectors") if upserts else None
        if upserts and vectors is not None and chosen:
            state = self._appended(state, upserts, vectors, chosen, keys)
        dead, late = self._doomed(deletes, state) if deletes else ([], 0)
        if dead:
            state = self._without(state, dead)
        self._state = state
        return Applied(len(chosen), len(dead), stale + late)

    def _newer(self, upserts: Upserts, state: _State) -> tuple[list[int], list[bytes], int]:
        """Which upserts to take, with their ids: the newest of each image, if newer than what is held."""
        check_lengths(upserts)
        keys = checked_ids(upserts.ids, "ids")
        versions = upserts.versions.tolist()
        newest: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            row = state.row_of.get(key)
            held = self._removed.get(key) if row is None else int(state.versions[row])
            if held is not None and versions[at] <= held:
                continue
            if key not in newest or versions[at] >= versions[newest[key]]:
                newest[key] = at
        chosen = list(newest.values())
        return chosen, list(newest), len(keys) - len(chosen)

    def _appended(
        self,
        state: _State,
        upserts: Upserts,
        vectors: NDArray[np.float32],
        chosen: Sequence[int],
        keys: Sequence[bytes],
    ) -> _State:
        rows = state.rows + len(chosen)
        ids, versions, codes = self._room(state, rows)
        ids[state.rows : rows] = upserts.ids[chosen]
        versions[state.rows : rows] = upserts.versions[chosen]
        codes[state.rows : rows] = half.encode(vectors[chosen])
        state.attributes.append(state.rows, [upserts.attributes[at] for at in chosen])
        alive = np.concatenate([state.alive, np.ones(len(chosen), np.bool_)])
        replaced = [row for key in keys if (row := state.row_of.get(key)) is not None]
        alive[replaced] = False
        state.row_of.update(zip(keys, range(state.rows, rows), strict=True))
        for key in keys:
            self._removed.pop(key, None)
        live = state.live + len(chosen) - len(replaced)
        return replace(state, rows=rows, ids=ids, versions=versions, codes=codes, alive=alive, live=live)

    def _room(self, state: _State, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], Codes]:
        if rows <= len(state.ids):
            return state.ids, state.versions, state.codes
        capacity = max(rows, len(state.ids) * 5 // 4, 256)
        bytes_each = 16 + 8 + 2 * self.dimension
        needed = (
            self.memory_bytes + (capacity - len(state.ids)) * bytes_each + (rows - state.rows) * _ID_BYTES
        )
        if needed > self._memory_limit:
            raise ProblemError(
                ProblemType.STORAGE_FULL,
                f"The shard holds {state.live} images and would need {needed} bytes, over its limit of "
                f"{self._memory_limit} (spec.index.memoryPerShard): raise the limit, add shards or delete images",
            )
        return (
            _grown(state.ids, state.rows, capacity),
            _grown(state.versions, state.rows, capacity),
            _grown(state.codes, state.rows, capacity),
        )

    def _doomed(self, deletes: Deletes, state: _State) -> tuple[list[bytes], int]:
        """Which images to remove; remembers the versions so that older inserts stay out."""
        keys = checked_ids(deletes.ids, "deleted ids")
        versions = [None] * len(keys) if deletes.versions is None else deletes.versions.tolist()
        doomed: dict[bytes, None] = {}
        for key, version in zip(keys, versions, strict=True):
            row = state.row_of.get(key)
            held = None if row is None else int(state.versions[row])
            if version is not None and held is not None and version < held:
                continue
            known = [v for v in (version, held, self._removed.get(key)) if v is not None]
            if known:
                self._removed[key] = max(known)
            if row is not None:
                doomed[key] = None
        while len(self._removed) > FORGOTTEN:
            del self._removed[next(iter(self._removed))]
        return list(doomed), len(keys) - len(doomed)

    def _without(self, state: _State, keys: Sequence[bytes]) -> _State:
        alive = state.alive.copy()
        alive[[state.row_of.pop(key) for key in keys]] = False
        return replace(state, alive=alive, live=state.live - len(keys))

    def search(
        self,
        queries: NDArray[np.floating[Any]],
        k: int,
        filter: Filter | None = None,  # noqa: A002 - the field's name
        exclude: Iterable[bytes] = (),
    ) -> Hits:
        """The `k` most similar live images of each query that pass the filter and are not excluded.

        `queries` is float32 [q, dimension]; `exclude` holds 16-byte ids. Each query gets exactly min(k, matching live
        images) hits. Raises `ProblemError(INVALID_REQUEST)` for queries of the wrong shape or without a direction.
        """
        state = self._state
        wanted = normalised(queries, self.dimension, "queries")
        keep = self._keep(state, filter, exclude)
        return _flat(state, wanted, k, keep)

    def _keep(self, state: _State, tree: Filter | None, exclude: Iterable[bytes]) -> Mask:
        keep = state.alive
        if tree is not None:
            keep = keep & state.attributes.mask(tree, state.rows)
        shut = [row for key in exclude if (row := _row_in(state, key)) is not None]
        if shut:
            keep = keep.copy()
            keep[shut] = False
        return keep


def _row_in(state: _State, key: bytes) -> int | None:
    """The row of an image in this state, even if a writer has moved on meanwhile."""
    row = state.row_of.get(key)
    if row is not None and row < state.rows and state.alive[row]:
        return row
    # The dictionary is the writer's: it may be ahead of this state, whose arrays are not.
    places = np.flatnonzero(
        (state.ids[: state.rows] == np.frombuffer(key, np.uint8)).all(axis=1) & state.alive
    )
    return int(places[0]) if len(places) else None


def _flat(state: _State, queries: NDArray[np.float32], k: int, keep: Mask) -> Hits:
    """Exact search; asks for one row more than wanted until no tie is cut, so that every replica answers alike."""
    matching = int(np.count_nonzero(keep))
    if not matching or k < 1:
        return Hits.none(len(queries), max(k, 0))
    asked = min(k + 1, matching)
    selected = None if matching == state.rows else keep
    while True:
        scores, rows = half.scan(state.codes[: state.rows], queries, asked, selected)
        if asked == matching or not (scores[:, k - 1] == scores[:, asked - 1]).any():
            return _hits(state, scores, rows, k)
        asked = min(asked * 4, matching)


def _hits(state: _State, scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
    found = rows >= 0
    asked = np.nonzero(found)[0]
    return rank(asked, state.ids[rows[found]], scores[found], len(rows), k)


def _grown(array: NDArray[Any], rows: int, capacity: int) -> NDArray[Any]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[:rows] = array[:rows]
    return larger
