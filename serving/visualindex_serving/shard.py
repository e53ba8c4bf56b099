"""One replica of one shard: loads its buckets from the catalog, follows the change log, answers searches."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TypeVar, cast

import numpy as np

from visualindex.ann import Deletes, ShardIndex, Upserts
from visualindex.catalog import Catalog, Changes, LogTrimmed, Position, Rows, Token
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import parse_filter
from visualindex.identity import buckets_of_shard
from visualindex.spec import VisualIndex
from visualindex_serving.deadlines import exceeded, remaining
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.metrics import ShardMetrics

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LEASE_S = 30.0
_HEARTBEAT_S = 5.0
_LOAD_ROWS = 5_000
_SEARCH_THREADS = 2
_AWAY_S = 0.2
_RELOAD_S = 1.0
_RENEW_S = 10.0
_PIECE_ROWS = 64
_ROOM = 0.9


class ShardReplica:
    """The state and the tasks of one replica. `open` returns once it holds everything its position covers."""

    def __init__(
        self,
        resource: VisualIndex,
        shard: int,
        catalog: Catalog,
        fingerprint: str,
        *,
        address: str | None = None,
    ) -> None:
        """Gateways find the replica at `address`, `host:port`, once it has loaded."""
        spec = resource.spec
        self._resource = resource
        self._shard = shard
        self._name = uuid.uuid4().hex[:12]
        self._catalog = catalog
        self._fingerprint = fingerprint
        self._address = address
        self._index = self._empty()
        self._follower = catalog.follow(
            resource.name, fingerprint, buckets_of_shard(shard, spec.index.shards)
        )
        self._applied: Position | None = None
        self._poll_s = spec.index.poll_interval_ms / 1000
        self._threads = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="apply")
        self._metrics = ShardMetrics(resource.name, shard, self._name)
        self._wanted = asyncio.Event()
        self._caught_up = asyncio.Condition()
        self._polled_at = 0.0
        self._full_at: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _empty(self) -> ShardIndex:
        spec = self._resource.spec
        return ShardIndex(
            spec.encoder.dimension,
            flat_below=spec.index.flat_below,
            hnsw=spec.index.hnsw,
            memory_limit=spec.index.memory_per_shard,
        )

    async def open(self) -> None:
        """Load, register the lease, follow."""
        try:
            await self._load()
        except BaseException:
            self._end_threads()
            raise
        await self._lease()
        self._tasks = [
            asyncio.create_task(self._follow(), name="follow"),
            asyncio.create_task(self._heartbeat(), name="heartbeat"),
        ]

    async def close(self) -> None:
        """Stop following and give the lease back, so that nothing waits for this replica."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._catalog.release(self._resource.name, self._shard, self._name)
        except ProblemError as exc:
            logger.info("the lease of %s runs out by itself: %s", self._name, exc)
        self._end_threads()

    def _end_threads(self) -> None:
        self._index.close()
        for threads in (self._threads, self._writer):
            threads.shutdown(wait=False)

    @property
    def full(self) -> bool:
        """Whether images of this shard are missing here because they do not fit into `index.memoryPerShard`."""
        return self._full_at is not None

    def check(self) -> None:
        """Raise RuntimeError when the follower or the heartbeat has stopped."""
        dead = [task.get_name() for task in self._tasks if task.done()]
        if dead:
            raise RuntimeError(f"shard {self._shard}: {', '.join(dead)} stopped")

    async def _load(self, *, leased: bool = False) -> None:
        """Load all rows anew. `leased`: the heartbeat holds a place in the log that the load does not reach back behind."""
        start, start_time = time.perf_counter(), time.time()
        index = self._empty()
        try:
            left_out = await self._fill(index, leased=leased)
        except BaseException:
            index.close()
            raise
        previous, self._index = self._index, index
        previous.close()
        self._applied = self._follower.position
        self._polled_at = start_time
        self._full_at = None
        self._note_full(index if left_out else None)
        logger.info(
            "shard %d holds %d rows, loaded in %.2f s", self._shard, len(index), time.perf_counter() - start
        )

    async def _fill(self, index: ShardIndex, *, leased: bool) -> bool:
        """Load what fits, under a lease; True when something did not fit, and then the rest was left out."""
        leased_at = math.inf if leased else -math.inf
        parts = cast("AsyncGenerator[Rows]", self._follower.load(_LOAD_ROWS))
        async with aclosing(parts):
            async for rows in parts:
                if time.monotonic() - leased_at >= _RENEW_S and await self._lease(loading=True):
                    leased_at = time.monotonic()
                if await self._on_writer(partial(take, index, upserts(rows), None)):
                    return True
        return False

    def _note_full(self, index: ShardIndex | None) -> None:
        """Remember how many rows, removed ones that still take room among them, the index had when it was full."""
        if index is not None:
            figures = index.stats()
            rows = figures["live"] + figures["dead"]
            text = "shard %d of index %s is full at %d images: those beyond are not found; raise spec.index.memoryPerShard, "
            if self._full_at is None:
                logger.error(
                    text + "add shards or delete images", self._shard, self._resource.name, len(index)
                )
            self._full_at = max(rows, self._full_at or 0)
        self._metrics.full.set(float(self.full))

    async def _on_writer(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, job)

    async def _follow(self) -> None:
        while True:
            await self._next_poll()
            try:
                await self._poll()
                if self._has_room_again():
                    logger.info(
                        "shard %d of index %s has room again: reloading", self._shard, self._resource.name
                    )
                    await self._reload(leased=True)
            except LogTrimmed as exc:
                logger.warning("shard %d reloads: %s", self._shard, exc)
                await self._reload()
            except ProblemError as exc:
                logger.warning("shard %d cannot read the change log: %s", self._shard, exc)
                await asyncio.sleep(_AWAY_S)

    async def _reload(self, *, leased: bool = False) -> None:
        """Load until it succeeds: the rows of a load that broke off are not all here, so polling on would miss some."""
        while True:
            try:
                await self._load(leased=leased)
            except ProblemError as exc:
                logger.warning("shard %d cannot reload yet: %s", self._shard, exc)
                await asyncio.sleep(_RELOAD_S)
            else:
                return

    def _has_room_again(self) -> bool:
        """Whether enough was removed for a load to take in some of what was left out. A load leaves no removed rows."""
        return self._full_at is not None and len(self._index) < _ROOM * self._full_at

    async def _next_poll(self) -> None:
        """Wait for the poll interval, or less when a search waits for news."""
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()

    async def _poll(self) -> None:
        started = time.time()
        changes = await self._follower.poll()
        await self._apply(changes)
        self._applied = changes.position
        if changes.more:
            self._wanted.set()
        else:
            self._polled_at = started
        async with self._caught_up:
            self._caught_up.notify_all()

    async def _apply(self, changes: Changes) -> None:
        """Apply what a poll brought, whole, before the next poll: it will not be brought again.

        A full shard applies the deletions and the upserts that fit. It forgets its copy of an image whose update does not
        fit, so that nothing is found by what it no longer is, and loads again once there is room.
        """
        if not len(changes.upserts) and not changes.deleted:
            return
        index, rows, gone = self._index, upserts(changes.upserts), deletes(changes.deleted)
        if await self._on_writer(lambda: take(index, rows, gone)):
            self._note_full(index)
        if changes.newest_changed_at is not None:
            age_ms = (time.time() - changes.newest_changed_at.timestamp()) * 1000
            self._metrics.freshness.observe(max(0.0, age_ms))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            self._metrics.rows.set(len(self._index))
            self._metrics.memory.set(self._index.memory_bytes)
            self._metrics.lag.set((time.time() - self._polled_at) * 1000)
            await self._lease()

    async def _lease(self, *, loading: bool = False) -> bool:
        """Renew the lease, so that the log is not trimmed past this replica; True when it could be renewed."""
        position = self._follower.position if loading else self._position()
        rows = len(self._index)
        try:
            await self._catalog.heartbeat(
                self._resource.name,
                self._shard,
                self._name,
                position,
                rows,
                _LEASE_S,
                loading=loading,
                address=self._address,
            )
        except (ProblemError, LogTrimmed) as exc:
            logger.warning("shard %d cannot renew its lease: %s", self._shard, exc)
            return False
        return True

    async def search(self, query: ShardQuery) -> ShardAnswer:
        """Answer a batch of searches, after catching up if asked to. Raises ProblemError DEADLINE_EXCEEDED."""
        if not await self._catch_up(query):
            return self._behind(query)
        if remaining(query.deadline) <= 0:
            raise exceeded(f"waiting in shard {self._shard}")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._search, query)

    def _search(self, query: ShardQuery) -> ShardAnswer:
        start = time.thread_time()
        index = self._index
        tree = None if query.filter is None else parse_filter(query.filter, max_depth=64, max_terms=1024)
        hits = index.search(query.vectors, query.k, tree, query.exclude)
        cpu_ms = (time.thread_time() - start) * 1000
        return ShardAnswer(
            hits.ids, hits.scores, hits.counts, hits.versions, len(index), cpu_ms, replica=self._name
        )

    async def _catch_up(self, query: ShardQuery) -> bool:
        if query.token is None and not query.strong:
            return True
        asked_at = time.time()
        until = min(query.deadline, asked_at + query.wait_s)
        token = None if query.token is None else Token.parse(query.token)

        def covered() -> bool:
            if query.strong and self._polled_at < asked_at:
                return False
            return token is None or self._position().covers(token)

        while not covered():
            self._wanted.set()
            try:
                async with asyncio.timeout(remaining(until)), self._caught_up:
                    await self._caught_up.wait()
            except TimeoutError:
                return covered()
        return True

    def _position(self) -> Position:
        assert self._applied is not None  # noqa: S101 - set by the load before anything asks
        return self._applied

    def _behind(self, query: ShardQuery) -> ShardAnswer:
        q = len(query.vectors)
        return ShardAnswer(
            np.zeros((q, 0, 16), np.uint8),
            np.zeros((q, 0), np.float32),
            np.zeros(q, np.int64),
            np.zeros((q, 0), np.int64),
            len(self._index),
            0.0,
            behind_s=time.time() - self._polled_at,
            replica=self._name,
        )


def take(index: ShardIndex, rows: Upserts, gone: Deletes | None) -> bool:
    """Apply the deletions and the upserts that fit, and forget the images of those that do not; True if there are any.

    Raises RuntimeError for rows that the index cannot hold at all: the shard must not go on without them.
    """
    if _fits(index, rows, gone):
        return False
    index.apply(None, gone)
    for first in range(0, len(rows), _PIECE_ROWS):
        if not _fits(index, part(rows, slice(first, first + _PIECE_ROWS)), None):
            index.apply(None, Deletes(rows.ids[first:]))
            return True
    return False


def _fits(index: ShardIndex, rows: Upserts, gone: Deletes | None) -> bool:
    try:
        index.apply(rows, gone)
    except ProblemError as problem:
        if problem.type is ProblemType.STORAGE_FULL:
            return False
        raise RuntimeError(problem.detail) from problem
    return True


def part(rows: Upserts, chosen: slice) -> Upserts:
    """Some of the rows."""
    return Upserts(rows.ids[chosen], rows.vectors[chosen], rows.attributes[chosen], rows.versions[chosen])


def upserts(rows: Rows) -> Upserts:
    """The catalog's rows as the index takes them."""
    attributes = [
        {"category": category, "key": key, "metadata": metadata, "colours": colours}
        for category, key, metadata, colours in zip(
            rows.categories, rows.keys, rows.metadata, rows.colour_lists, strict=True
        )
    ]
    return Upserts(rows.ids, rows.vectors, attributes, rows.versions)


def deletes(image_ids: list[uuid.UUID]) -> Deletes | None:
    """Deleted ids as the index takes them."""
    if not image_ids:
        return None
    packed = b"".join(image_id.bytes for image_id in image_ids)
    return Deletes(np.frombuffer(packed, np.uint8).reshape(-1, 16))


def not_registered(index: str) -> ProblemError:
    """The problem of an index whose encoder has not registered itself in time."""
    return ProblemError(
        ProblemType.UNAVAILABLE,
        f"Index {index} is not registered in the catalog yet: its gateway or encoder has not started.",
        retry_after_s=1,
    )
