"""One shard replica's rows in memory: what it may return, and how it follows a stream of changes."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.asking import Ask, Looked
from visualindex.ann.attributes import Fields, fields
from visualindex.ann.base import Base
from visualindex.ann.changes import (
    Applied,
    Deletes,
    Upserts,
    check_equal,
    check_lengths,
    checked_ids,
    normalised,
)
from visualindex.ann.graph import Abandoned, link_bytes
from visualindex.ann.hits import Hits
from visualindex.ann.maintenance import Plan, Work, prepared
from visualindex.ann.snapshot import Snapshot
from visualindex.ann.state import (
    ROW_OBJECT_BYTES,
    State,
    appended,
    capacity_for,
    empty,
    without,
    without_in_bases,
)
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import Filter
from visualindex.spec.models import HnswSpec

log = logging.getLogger(__name__)

FORGOTTEN = 65_536
"""How many removed images keep their version, so that a late, older insert does not bring them back."""

MAX_FAILURES = 3
"""Failed maintenance runs in a row after which the index stays as it is: slower, but right."""


class ShardIndex:
    """Images of one shard by cosine similarity, filtered. Writers take turns; searches run in any number of threads.

    Rows are never changed in place: a newer version of an image is a new row, and the old one is dead from the moment
    the change is published. Searches read one published state to their end, so they neither wait for writers nor see
    half of a change.

    It may stand on the segments of a generation: their rows are found where no fresh row and no removal took their
    place. Up to `flat_below` fresh rows are scanned exactly. Beyond, a thread of the index builds an HNSW graph over
    them and later extends it; rows that the graph does not cover yet are scanned, and so are up to `flat_below` rows
    that a filter leaves. Vectors are held in half precision.
    """

    def __init__(
        self,
        dimension: int,
        *,
        flat_below: int,
        hnsw: HnswSpec,
        memory_limit: int,
        bases: Sequence[Base] = (),
    ) -> None:
        """An index of `dimension`-d vectors over `bases`, without fresh rows; it may hold `memory_limit` bytes.

        Raises `ProblemError(STORAGE_FULL)` when the bases alone take more.
        """
        self.dimension = dimension
        self._plan = Plan(flat_below, hnsw)
        self._memory_limit = memory_limit
        self._state = empty(dimension, tuple(bases))
        self._removed: dict[bytes, int] = {}
        self._writing = threading.Lock()
        self._publishing = threading.Lock()
        self._maintaining = threading.Lock()
        self._worker: threading.Thread | None = None
        self._closed = threading.Event()
        self._cramped = False
        self._failures = 0
        if bases and self.memory_bytes > memory_limit:
            raise ProblemError(
                ProblemType.STORAGE_FULL,
                f"The shard's part of the generation takes {self.memory_bytes} bytes, over its limit of {memory_limit} "
                "bytes (spec.index.memoryPerShard): raise the limit, add shards, or build with a smaller index family; "
                "where the number of shards has changed since it was built, build a generation for the new number",
            )

    def __len__(self) -> int:
        """Images that can be found."""
        return self._state.images

    @property
    def fresh(self) -> int:
        """Images that can be found and are in no base."""
        return self._state.live

    @property
    def memory_bytes(self) -> int:
        """Bytes held: arrays exactly, Python objects estimated. While a graph is built, its copy comes on top."""
        return self._state.memory_bytes + ROW_OBJECT_BYTES * len(self._removed)

    @property
    def fresh_bytes(self) -> int:
        """Of `memory_bytes`, what the bases do not hold: fresh rows and their graph."""
        return self.memory_bytes - sum(base.memory_bytes for base in self._state.bases)

    def stats(self) -> dict[str, int | bool]:
        """Figures for metrics and the status page."""
        state, worker = self._state, self._worker
        return {
            "live": state.images,
            "fresh": state.live,
            "dead": state.rows - state.live,
            "graph_rows": state.base,
            "scanned_rows": state.rows - state.base,
            "memory_bytes": self.memory_bytes,
            "memory_limit": self._memory_limit,
            "maintaining": worker is not None and worker.is_alive(),
            "maintenance_failures": self._failures,
        }

    def load(self, batches: Iterable[Upserts]) -> int:
        """Take in whole batches, such as a generation's rows; returns how many rows were taken in.

        Raises what `apply` raises; the batches before the refused one stay.
        """
        return sum(self.apply(batch).upserted for batch in batches)

    def apply(self, upserts: Upserts | None = None, deletes: Deletes | None = None) -> Applied:
        """Publish changes at once: a search sees all of them or none.

        Applying a change again changes nothing, and an older version never replaces a newer one. Of an image that is
        both upserted and deleted, the higher version wins, and the removal if it carries none. Raises
        `ProblemError(STORAGE_FULL)` when the upserts would exceed the memory limit, and then nothing has changed:
        apply the deletes alone, they always fit. Raises `ProblemError(INVALID_REQUEST)` for malformed arrays.
        """
        with self._writing:
            doomed = self._checked_deletes(deletes)
            after, added, stale = self._upserted(upserts)
            dead, removed, late = self._without_newer(doomed, after, added)
            fresh_dead = [row for row in dead.values() if row is not None]
            after = without(after, fresh_dead) if fresh_dead else after
            gone = [key for key, row in dead.items() if row is None]
            after = _out_of_bases(after, gone) if gone else after
            self._publish(after, added, [key for key, row in dead.items() if row is not None], removed)
        self._start_maintenance()
        return Applied(len(added), len(dead), stale + late)

    def mend(self, ids: NDArray[np.uint8], rows: Upserts | None = None) -> None:
        """Hold of the images `ids`, uint8 [n, 16], just `rows`, or nothing, whatever versions were held or removed before.

        Of an image that is in `rows` and fits, a search may miss it for a moment, and finds it then. Raises what `apply`
        raises; then the images are forgotten.
        """
        keys = checked_ids(ids, "ids")
        with self._writing:
            after = self._state
            fresh = {key: row for key in keys if (row := after.row_of.get(key)) is not None}
            after = without(after, list(fresh.values())) if fresh else after
            after = _out_of_bases(after, keys)
            for key in keys:
                self._removed.pop(key, None)
            self._publish(after, {}, fresh, {})
        if rows:
            self.apply(rows)

    def _upserted(self, upserts: Upserts | None) -> tuple[State, dict[bytes, int], int]:
        """The state with the upserts that are news, the row each of their images has there, and how many are not."""
        if not upserts:
            return self._state, {}, 0
        check_lengths(upserts)
        keys = checked_ids(upserts.ids, "ids")
        vectors = normalised(upserts.vectors, self.dimension, "vectors")
        newest = self._newest(keys, upserts.versions.tolist())
        stale = len(keys) - len(newest)
        if not newest:
            return self._state, {}, stale
        chosen = list(newest.values())
        flat = [fields(upserts.attributes[at]) for at in chosen]
        state = self._with_room(flat)
        replaced = [row for key in newest if (row := state.row_of.get(key)) is not None]
        codes = half.encode(vectors[chosen])
        after = appended(state, upserts.ids[chosen], upserts.versions[chosen], codes, flat, replaced)
        after = _out_of_bases(after, list(newest))
        return after, dict(zip(newest, range(state.rows, after.rows), strict=True)), stale

    def _newest(self, keys: Sequence[bytes], versions: Sequence[int]) -> dict[bytes, int]:
        """The place of the newest upsert of each image that is newer than what is held or removed."""
        state = self._state
        newest: dict[bytes, int] = {}
        in_bases = _versions_in_bases(state, keys)
        for at, (key, version) in enumerate(zip(keys, versions, strict=True)):
            row = state.row_of.get(key)
            held = int(state.versions[row]) if row is not None else in_bases.get(key, self._removed.get(key))
            if held is not None and version <= held:
                continue
            if key not in newest or version > versions[newest[key]]:
                newest[key] = at
        return newest

    def _with_room(self, flat: Sequence[Fields]) -> State:
        """The current state, once it can take further rows within the memory limit; refuses when it cannot."""
        if self._needed(flat) > self._memory_limit and self._state.live < self._state.rows:
            self._make_room()
        needed = self._needed(flat)
        if needed <= self._memory_limit:
            return self._state
        raise ProblemError(
            ProblemType.STORAGE_FULL,
            f"A shard of {self._state.live} images would need {needed} bytes for {len(flat)} more, over its limit of "
            f"{self._memory_limit} bytes (spec.index.memoryPerShard): raise the limit, add shards or delete images",
        )

    def _make_room(self) -> None:
        """Drop dead rows: at once where they are only scanned, in the background where a graph must be rebuilt."""
        # Maintenance under way relies on the numbers of rows, which compacting changes.
        if self._state.graph is None and self._maintaining.acquire(blocking=False):
            try:
                finish = prepared(Work.COMPACT, self._state, self._plan.hnsw, lambda: True, 1)
                self._replace_state(finish(self._state))
            finally:
                self._maintaining.release()
        else:
            self._cramped = True
            self._start_maintenance()

    def _needed(self, flat: Sequence[Fields]) -> int:
        """Bytes the index holds once it has taken rows of these attributes and its graph covers them."""
        state, rows = self._state, self._state.rows + len(flat)
        arrays = (capacity_for(state, rows) - len(state.ids)) * (2 * self.dimension + 16 + 8) + len(flat)
        objects = len(flat) * ROW_OBJECT_BYTES + state.attributes.cost(flat)
        links = rows * link_bytes(self._plan.hnsw) if state.live + len(flat) > self._plan.flat_below else 0
        built = state.graph.memory_bytes if state.graph else 0
        return self.memory_bytes + arrays + objects + max(0, links - built)

    def _checked_deletes(self, deletes: Deletes | None) -> list[tuple[bytes, int | None]]:
        if deletes is None:
            return []
        keys = checked_ids(deletes.ids, "deleted ids")
        versions = [None] * len(keys) if deletes.versions is None else deletes.versions.tolist()
        check_equal(len(keys), len(versions), "deleted ids and their versions")
        return list(zip(keys, versions, strict=True))

    def _without_newer(
        self, doomed: Sequence[tuple[bytes, int | None]], state: State, added: Mapping[bytes, int]
    ) -> tuple[dict[bytes, int | None], dict[bytes, int], int]:
        """The fresh rows to remove by image (None: it is in a base), the versions that keep older inserts out, and how
        many deletes change nothing."""
        dead: dict[bytes, int | None] = {}
        removed: dict[bytes, int] = {}
        in_bases = _versions_in_bases(state, [key for key, _ in doomed])
        for key, version in doomed:
            row = added.get(key, state.row_of.get(key))
            held = in_bases.get(key) if row is None else int(state.versions[row])
            if version is not None and held is not None and version < held:
                continue
            known = [v for v in (version, held, self._removed.get(key), removed.get(key)) if v is not None]
            if known:
                removed[key] = max(known)
            if held is not None:
                dead[key] = row
        return dead, removed, len(doomed) - len(dead)

    def _publish(
        self, after: State, added: Mapping[bytes, int], dead: Iterable[bytes], removed: Mapping[bytes, int]
    ) -> None:
        for key in added:
            self._removed.pop(key, None)
        self._removed.update(removed)
        while len(self._removed) > FORGOTTEN:
            del self._removed[next(iter(self._removed))]
        with self._publishing:
            after.row_of.update(added)
            for key in dead:
                del after.row_of[key]
            self._state = after

    def search(
        self,
        queries: NDArray[np.floating[Any]],
        k: int,
        filter: Filter | None = None,  # noqa: A002 - the field's name for it
        exclude: Iterable[bytes] = (),
    ) -> Hits:
        """The `k` most similar live images of each query that pass the filter and are not excluded.

        `queries` is float32 [q, dimension]; `exclude` holds 16-byte ids. Each query gets exactly min(k, matching live
        images) hits. Raises `ProblemError(INVALID_REQUEST)` for queries of the wrong shape or without a direction.
        """
        return self.look(queries, Ask(k, filter, tuple(exclude))).hits

    def look(self, queries: NDArray[np.floating[Any]], ask: Ask, *, exact: bool = False) -> Looked:
        """As `search`, with everything one can ask; of grouping and sorting one query at a time.

        `exact` leaves the indexes aside and scores every row that passes the filter.
        """
        return self.snapshot().look(queries, ask, exact=exact)

    def snapshot(self) -> Snapshot:
        """What is published now, to be searched more than once: writes that come later are not in it."""
        return Snapshot(self._state, self.dimension, self._plan.flat_below, self._plan.hnsw.ef_search)

    def maintain(self, threads: int = 1) -> None:
        """Do all maintenance that is due now, such as the first graph after a load, and return when it is done.

        Searches and writes go on meanwhile. `threads` build the graph; more than one make it differ from run to run.
        """
        with self._maintaining:
            while (work := self._due()) is not None:
                self._improve(work, threads)

    def close(self) -> None:
        """Stop background work and wait for it, which blocks for a while; searches still answer."""
        self._closed.set()
        if (worker := self._worker) is not None:
            worker.join()

    def _due(self) -> Work | None:
        return self._plan.due(self._state, cramped=self._cramped)

    def _improve(self, work: Work, threads: int) -> None:
        finish = prepared(work, self._state, self._plan.hnsw, lambda: not self._closed.is_set(), threads)
        with self._writing:
            self._replace_state(finish(self._state))
            self._cramped = False

    def _replace_state(self, after: State) -> None:
        with self._publishing:
            self._state = after

    def _start_maintenance(self) -> None:
        idle = self._worker is None or not self._worker.is_alive()
        if idle and not self._closed.is_set() and self._failures < MAX_FAILURES and self._due() is not None:
            self._worker = threading.Thread(
                target=self._maintain_quietly, name="ann-maintenance", daemon=True
            )
            self._worker.start()

    def _maintain_quietly(self) -> None:
        try:
            self.maintain()
            self._failures = 0
        except Abandoned:
            log.info("index maintenance was abandoned because the index closed")
        except Exception:
            self._failures += 1
            log.exception("index maintenance failed; rows it would have covered are scanned")


def _versions_in_bases(state: State, keys: Sequence[bytes]) -> dict[bytes, int]:
    """The versions of those images whose wanted row is in a base."""
    if not state.bases or not keys:
        return {}
    versions: dict[bytes, int] = {}
    ids = _as_ids(keys)
    for base in state.bases:
        rows = base.find(ids)
        at = np.flatnonzero(rows >= 0)
        held = base.segment.versions[rows[at]].tolist()
        versions.update((keys[place], version) for place, version in zip(at.tolist(), held, strict=True))
    return versions


def _out_of_bases(state: State, keys: Sequence[bytes]) -> State:
    """The state in which the bases no longer have these images."""
    if not state.bases or not keys:
        return state
    ids = _as_ids(keys)
    rows = [base.find(ids) for base in state.bases]
    return without_in_bases(state, [np.unique(found[found >= 0]) for found in rows])


def _as_ids(keys: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
