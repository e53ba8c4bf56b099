"""The rows of a shard as one generation gives them, kept at what the catalog says by following the change log."""

import asyncio
import logging
import math
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TypeVar, cast

import numpy as np

from visualindex.ann import Base, Deletes, ShardIndex, Upserts
from visualindex.catalog import ChangeFollower, Changes, LogTrimmed, Position, Rows, Token
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.deadlines import remaining
from visualindex_serving.ending import ended
from visualindex_serving.messages import ShardQuery
from visualindex_serving.pace import Kind, Pace
from visualindex_serving.reconciling import Reconciled

logger = logging.getLogger(__name__)
T = TypeVar("T")

LIVE = "live"
"""What stands for a generation where there is none yet: all rows come from the catalog."""

_LOAD_ROWS = 5_000
_AWAY_S = 0.2
_LOOKS_APART_S = 0.02
"""However much is written, news brings no more looks than this into the change log: each costs the database a query."""
_RELOAD_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between loads that fail, each of which reads the whole generation. After the last one the catalog's rows are served."""
_PIECE_ROWS = 64
_ROOM = 0.9

MakeIndex = Callable[[Sequence[Base]], ShardIndex]
OpenBases = Callable[[], Awaitable[Sequence[Base]]]
Progress = Callable[[], Awaitable[None]]
"""Called again and again while rows are loaded."""


class ShardView:
    """One generation of a shard. Its searches see every change up to `position`."""

    def __init__(
        self,
        generation: str,
        follower: ChangeFollower,
        make: MakeIndex,
        writer: ThreadPoolExecutor,
        *,
        watermark: Position | None = None,
        open_bases: OpenBases | None = None,
        poll_s: float = 0.1,
        seen_after_ms: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`watermark` and `open_bases` belong to a generation; without them every row is loaded from the catalog.

        `seen_after_ms` is told how long after their commit changes were applied.
        """
        self.generation = generation
        self.polled_at = 0.0
        self.problem: str | None = None
        """Why it cannot load again, while it cannot: until then it answers from what it had."""
        self.paces: dict[Kind, Pace] = {"plain": Pace(), "filtered": Pace()}
        self._follower = follower
        self._make = make
        self._writer = writer
        self._watermark = watermark
        self._open_bases = open_bases
        self._poll_s = poll_s
        self._seen_after_ms = seen_after_ms
        self._index = make(())
        self._applied: Position | None = None
        self._wanted = asyncio.Event()
        self._looked_at = -math.inf
        self._looking: asyncio.TimerHandle | None = None
        self._caught_up = asyncio.Condition()
        self._full_at: int | None = None
        self._mends: deque[tuple[list[uuid.UUID], asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def fingerprint(self) -> str:
        """Of the encoder whose vectors it holds."""
        return self._follower.fingerprint

    @property
    def index(self) -> ShardIndex:
        """What searches read."""
        return self._index

    @property
    def position(self) -> Position:
        """What was applied; while it loads for the first time, where the load stands in the log."""
        return self._follower.position if self._applied is None else self._applied

    @property
    def full(self) -> bool:
        """Whether images are missing here because they do not fit into `index.memoryPerShard`."""
        return self._full_at is not None

    @property
    def following(self) -> bool:
        """Whether it keeps up with the catalog."""
        return self._task is not None and not self._task.done()

    @property
    def stopped(self) -> BaseException | None:
        """What ended the following, if something did."""
        task = self._task
        return None if task is None or not task.done() or task.cancelled() else task.exception()

    async def open(self, progress: Progress) -> None:
        """Load, and follow from then on. Raises ProblemError when a file or the catalog cannot be read."""
        await self._load(progress)
        self._task = asyncio.create_task(self._follow(), name=f"follow {self.generation}")

    async def close(self) -> None:
        """Stop following; searches that run go on."""
        if self._looking is not None:
            self._looking.cancel()
        # A task that was cancelled holds its frames, and these hold the view: neither would be freed by itself.
        task, self._task = self._task, None
        if task is not None:
            await ended([task])
        while self._mends:
            _, mended = self._mends.popleft()
            mended.set_exception(_closed(self.generation))
        await asyncio.to_thread(self._index.close)

    async def _load(self, progress: Progress) -> None:
        start, start_time = time.perf_counter(), time.time()
        bases = [] if self._open_bases is None else await self._open_bases()
        index, left_out = await self._filled(bases, progress)
        previous, self._index = self._index, index
        self._applied = self._follower.position
        self.polled_at = start_time
        self._full_at = None
        self._note_full(index if left_out else None)
        await asyncio.to_thread(previous.close)
        took = time.perf_counter() - start
        logger.info("generation %s holds %d rows, loaded in %.2f s", self.generation, len(index), took)

    async def _filled(self, bases: Sequence[Base], progress: Progress) -> tuple[ShardIndex, bool]:
        """An index of everything, and whether something had to be left out because it does not fit."""
        if self._watermark is None:
            return await self._from_catalog((), progress)
        try:
            return await self._from_log(bases, self._watermark, progress)
        except LogTrimmed as exc:
            logger.warning("generation %s is compared with the catalog, row by row: %s", self.generation, exc)
            return await self._from_catalog(bases, progress)

    async def _from_log(
        self, bases: Sequence[Base], watermark: Position, progress: Progress
    ) -> tuple[ShardIndex, bool]:
        """The bases, and what the log says was written since."""
        await self._follower.resume(watermark)
        index = self._make(bases)
        left_out = False
        try:
            while True:
                await progress()
                changes = await self._follower.poll()
                left_out |= await self._take(index, upserts(changes.upserts), deletes(changes.deleted))
                if not changes.more:
                    return index, left_out
        except BaseException:
            await asyncio.to_thread(index.close)
            raise

    async def _from_catalog(self, bases: Sequence[Base], progress: Progress) -> tuple[ShardIndex, bool]:
        """Every row of the catalog: of those that a base holds in this version only the base's.

        A full index reads on for what it has to forget of its bases, and holds no row meanwhile that it cannot keep.
        """
        index, reconciled, full = self._make(bases), Reconciled(bases), False
        parts = cast("AsyncGenerator[Rows]", self._follower.load(_LOAD_ROWS))
        try:
            async with aclosing(parts):
                async for rows in parts:
                    await progress()
                    full = await self._on_writer(partial(_compare, index, reconciled, rows, full=full))
                    if full and not bases:
                        break
            for ids in reconciled.gone(_LOAD_ROWS):
                await self._on_writer(partial(index.mend, ids))
        except BaseException:
            await asyncio.to_thread(index.close)
            raise
        return index, full

    async def _on_writer(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, job)

    async def _take(self, index: ShardIndex, rows: Upserts, gone: Deletes | None) -> bool:
        if not len(rows) and gone is None:
            return False
        return await self._on_writer(lambda: take(index, rows, gone))

    def _note_full(self, index: ShardIndex | None) -> None:
        """Remember how many rows, removed ones that still take room among them, the index had when it was full."""
        if index is None:
            return
        figures = index.stats()
        rows = figures["live"] + figures["dead"]
        text = "the shard is full at %d images: those beyond are not found; raise spec.index.memoryPerShard, "
        if self._full_at is None:
            logger.error(text + "add shards or delete images", len(index))
        self._full_at = max(rows, self._full_at or 0)

    async def _follow(self) -> None:
        while True:
            await self._next_poll()
            try:
                await self._poll()
                await self._mend_asked()
                why = "it has room again" if self._has_room_again() else None
            except LogTrimmed as exc:
                why = str(exc)
            except ProblemError as exc:
                logger.warning("the change log cannot be read: %s", exc)
                await asyncio.sleep(_AWAY_S)
                continue
            if why is not None:
                logger.warning("generation %s reloads: %s", self.generation, why)
                await self._reload()

    async def mend(self, image_ids: Sequence[uuid.UUID]) -> None:
        """Hold of some images what the catalog says now, whatever was held before. Raises ProblemError UNAVAILABLE."""
        if not self.following:
            raise _closed(self.generation)
        mended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mends.append((list(image_ids), mended))
        self._wanted.set()
        await mended

    async def _mend_asked(self) -> None:
        """Between two polls: what is read now is no older than what was applied, and what comes later is polled."""
        while self._mends:
            image_ids, mended = self._mends.popleft()
            try:
                await self._mend(image_ids)
            except ProblemError as problem:
                if not mended.cancelled():
                    mended.set_exception(problem)
            except BaseException:
                if not mended.cancelled():
                    mended.set_exception(_closed(self.generation))
                raise
            else:
                if not mended.cancelled():
                    mended.set_result(None)

    async def _mend(self, image_ids: list[uuid.UUID]) -> None:
        rows, index = await self._follower.current(image_ids), self._index
        packed = np.frombuffer(b"".join(one.bytes for one in image_ids), np.uint8).reshape(-1, 16)
        try:
            await self._on_writer(lambda: index.mend(packed, upserts(rows)))
        except ProblemError as problem:
            if problem.type is not ProblemType.STORAGE_FULL:
                raise
            self._note_full(index)

    async def reached(self, position: Position, within_s: float) -> bool:
        """Whether everything up to `position` was applied, after waiting for it at most so long."""
        until = time.time() + within_s
        while not self.position.includes(position):
            self._wanted.set()
            try:
                async with asyncio.timeout(remaining(until)), self._caught_up:
                    await self._caught_up.wait()
            except TimeoutError:
                return self.position.includes(position)
        return True

    async def _reload(self) -> None:
        """Load until it succeeds: the rows of a load that broke off are not all here, so polling on would miss some.

        Raises the ProblemError of the last attempt, which ends the following.
        """
        for pause_s in (*_RELOAD_PAUSES_S, None):
            try:
                await self._load(_nothing)
            except ProblemError as exc:
                self.problem = f"it cannot load again: {' '.join(exc.detail.split())}"
                logger.warning("generation %s cannot reload yet: %s", self.generation, exc)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                self.problem = None
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
        started, self._looked_at = time.time(), asyncio.get_running_loop().time()
        changes = await self._follower.poll()
        await self._apply(changes)
        self._applied = changes.position
        if changes.more:
            self._wanted.set()
        else:
            self.polled_at = started
        async with self._caught_up:
            self._caught_up.notify_all()

    async def _apply(self, changes: Changes) -> None:
        """Apply what a poll brought, whole, before the next poll: it will not be brought again.

        A full shard applies the deletions and the upserts that fit. It forgets its copy of an image whose update does not
        fit, so that nothing is found by what it no longer is, and loads again once there is room.
        """
        index = self._index
        if await self._take(index, upserts(changes.upserts), deletes(changes.deleted)):
            self._note_full(index)
        if changes.newest_changed_at is not None:
            self._seen_after_ms(max(0.0, (time.time() - changes.newest_changed_at.timestamp()) * 1000))

    def look_now(self) -> None:
        """Look into the change log without waiting for the poll interval."""
        if self._looking is None:
            loop = asyncio.get_running_loop()
            self._looking = loop.call_at(self._looked_at + _LOOKS_APART_S, self._look)

    def _look(self) -> None:
        self._looking = None
        self._wanted.set()

    async def caught_up(self, query: ShardQuery) -> bool:
        """Whether the view covers what the query wants to see, after waiting for it as long as the query allows."""
        if query.token is None and not query.strong:
            return True
        asked_at = time.time()
        until = min(query.deadline, asked_at + query.wait_s)
        token = None if query.token is None else Token.parse(query.token)

        def covered() -> bool:
            if query.strong and self.polled_at < asked_at:
                return False
            return token is None or self.position.covers(token)

        while not covered():
            self._wanted.set()
            try:
                async with asyncio.timeout(remaining(until)), self._caught_up:
                    await self._caught_up.wait()
            except TimeoutError:
                return covered()
        return True


def _closed(generation: str) -> ProblemError:
    detail = f"generation {generation} is not followed here any more: ask again"
    return ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)


async def _nothing() -> None:
    pass


def _compare(index: ShardIndex, reconciled: Reconciled, rows: Rows, *, full: bool) -> bool:
    """Take in what the bases of the index do not hold of the catalog's rows, unless it is full; whether it is now."""
    rest, outdated = reconciled.rest(rows)
    if len(outdated):
        index.mend(outdated)
    return full or (len(rest) > 0 and take(index, upserts(rest), None))


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
    return Upserts(rows.ids, rows.vectors, rows.attributes(), rows.versions)


def deletes(image_ids: list[uuid.UUID]) -> Deletes | None:
    """Deleted ids as the index takes them."""
    if not image_ids:
        return None
    packed = b"".join(image_id.bytes for image_id in image_ids)
    return Deletes(np.frombuffer(packed, np.uint8).reshape(-1, 16))
