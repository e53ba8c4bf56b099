"""Following the change log: a full load at one snapshot, then polls that miss nothing however commits interleave.

See docs/decisions/0002-change-log-positions.md.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.rows import TupleRow

from visualindex.catalog.connections import Connection, Connections, one, rows
from visualindex.catalog.directions import directionless, tell_passed_over
from visualindex.catalog.migrate import IS_RESTORED, stamp_if_restored
from visualindex.catalog.positions import Position
from visualindex.catalog.rows import COLOURS, PACKED, Rows, uuids
from visualindex.errors import ProblemError, ProblemType

_CURSOR = "visualindex_load"
_EPOCH = "(SELECT value FROM meta WHERE key = 'epoch')"
# Which crash of the server a reader has lived through: statistics are reset by one, and by nothing else that is frequent.
_LIFE = "pg_postmaster_start_time()::text || '/' || coalesce((SELECT stats_reset FROM pg_stat_bgwriter)::text, '')"
_PROBE = f"SELECT pg_current_snapshot()::text, {_LIFE}"
_HEAD = f"""SELECT pg_current_snapshot()::text, {_EPOCH}, {IS_RESTORED}, {_LIFE},
    pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_current_wal_flush_lsn() - '0/0'::pg_lsn"""
_POLL = f"""
WITH log AS (
    (SELECT xid, seq, image_id, changed_at FROM changes
     WHERE index_name = %(index)s AND xid = ANY(%(running)s::text[]::xid8[])
         AND bucket >= %(first)s AND bucket < %(stop)s)
    UNION ALL
    (SELECT xid, seq, image_id, changed_at FROM changes
     WHERE index_name = %(index)s AND xid >= %(xmax)s::text::xid8 AND bucket >= %(first)s AND bucket < %(stop)s
     ORDER BY xid FETCH FIRST %(limit)s ROWS WITH TIES)
), changed AS (
    SELECT image_id, max(seq) AS seq FROM log GROUP BY image_id
), current AS MATERIALIZED (
    SELECT c.image_id, e.vector, i.version, i.category, i.key, i.metadata, i.colours
    FROM changed c
    LEFT JOIN images i ON i.index_name = %(index)s AND i.image_id = c.image_id
    LEFT JOIN image_embeddings e ON e.index_name = %(index)s AND e.image_id = c.image_id
        AND e.region = %(region)s AND e.fingerprint = %(fingerprint)s
), upserts AS (
    SELECT {PACKED} FROM current WHERE vector IS NOT NULL
), deleted AS (
    SELECT coalesce(string_agg(uuid_send(image_id), ''::bytea), '') FROM current WHERE vector IS NULL
), tally AS (
    SELECT count(*) FILTER (WHERE xid >= %(xmax)s::text::xid8), max(xid)::text, max(changed_at) FROM log
), head AS (
    {_HEAD}, (SELECT trimmed_through >= %(xmin)s::text::xid8 FROM indexes WHERE index_name = %(index)s)
)
SELECT * FROM head, tally, deleted, upserts
"""  # noqa: S608 (constants)
# One pass over both tables, in whatever order they lie: the load of all buckets reads every page once.
_LOAD = f"""SELECT uuid_send(i.image_id), e.vector, i.version, i.category, i.key, i.metadata::text, {COLOURS}
    FROM image_embeddings e JOIN images i USING (index_name, image_id)
    WHERE e.index_name = %s AND e.fingerprint = %s AND e.region = %s AND e.bucket >= %s AND e.bucket < %s"""  # noqa: S608 (constants)
# The planner would otherwise prefer a plan that is quick for the first tenth of the rows and slow for all.
_WHOLE = "SELECT set_config('cursor_tuple_fraction', '1.0', true), set_config('work_mem', '64MB', true)"


class LogTrimmed(Exception):  # noqa: N818 (no error: the reader must load again)
    """What follows this position is no longer in the log, or the database was restored: load again."""


@dataclass(frozen=True)
class Changes:
    """What changed since the last poll, each image once and as it is now.

    `deleted` are the images that are gone or have no vector of this fingerprint that points anywhere. `more` tells that the
    poll stopped at its limit: poll again at once. `newest_changed_at` is None when nothing changed.
    """

    upserts: Rows
    deleted: list[UUID]
    position: Position
    newest_changed_at: datetime | None
    more: bool


@dataclass(frozen=True)
class _Head:
    """What the server said about itself in the statement that took the position."""

    position: Position
    restored: bool
    life: str
    written: int
    flushed: int


class ChangeFollower:
    """Follows the images of some buckets of an index: `load` once, then `poll` for ever."""

    def __init__(
        self,
        connections: Connections,
        index: str,
        fingerprint: str,
        buckets: range,
        *,
        region: int = 0,
        dimension: int | None = None,
    ) -> None:
        """`dimension` is that of the vectors, where they are of another encoder than the index has now."""
        self._connections = connections
        self._index = index
        self._fingerprint = fingerprint
        self._buckets = buckets
        self._region = region
        self._dimension = 0
        self._given_dimension = dimension
        self._position: Position | None = None
        self._life = ""
        self._durable: Position | None = None
        self._undurable: tuple[Position, int] | None = None

    @property
    def fingerprint(self) -> str:
        """Of the encoder whose vectors it reads."""
        return self._fingerprint

    @property
    def position(self) -> Position:
        """What was handed out so far. During a load it is already the load's position: lease it (`heartbeat`) early."""
        if self._position is None:
            raise RuntimeError(f"the follower of index {self._index} has no position yet: load first")
        return self._position

    async def resume(self, position: Position) -> None:
        """Continues from a stored position instead of a load, e.g. the watermark of a generation."""
        self._dimension = await self._connections.read(self._read_dimension)
        self._position = self._durable = position
        self._life, self._undurable = "", None

    async def load(self, batch_rows: int = 20_000) -> AsyncIterator[Rows]:
        """All images of one moment, in parts of at most `batch_rows`; what comes later is left to `poll`."""
        await stamp_if_restored(self._connections)
        async with self._connections.snapshot() as connection:
            self._dimension = await self._read_dimension(connection)
            head = _head(await one(connection, _HEAD))
            self._position, self._durable = head.position, None
            self._remember(head)
            await one(connection, _WHOLE)
            async with connection.cursor(_CURSOR, binary=True) as cursor:
                await cursor.execute(_LOAD.encode(), self._selection())
                while found := await cursor.fetchmany(batch_rows):
                    yield self._pointing(Rows.collect(self._dimension, found))[0]

    async def current(self, image_ids: Sequence[UUID]) -> Rows:
        """Those of some images that there are now. The position stays: later polls may bring them again."""
        query = f"{_LOAD} AND e.image_id = ANY(%s)"

        async def work(connection: Connection) -> list[TupleRow]:
            return await rows(connection, query, *self._selection(), list(image_ids))

        found = await self._connections.read(work)
        return (
            self._pointing(Rows.collect(self._dimension, found))[0] if found else Rows.empty(self._dimension)
        )

    async def poll(self, limit: int = 20_000) -> Changes:
        """What changed since `position`, and moves it on.

        Stops after the transaction in which `limit` log rows are reached. Raises LogTrimmed; ProblemError UNAVAILABLE
        while the database is away, and the position stays.
        """
        since = self.position
        if await self._nothing_was_written(since):
            return Changes(Rows.empty(self._dimension), [], since, None, more=False)
        row = await self._poll_from(since, limit)
        head = _head(row)
        if self._life and head.life != self._life:
            # The server crashed: ids of transactions that left no trace are given out again, and `since` may hold some.
            since = self._durable or _refuse(
                self._index, "the server crashed before its position was durable"
            )
            row = await self._poll_from(since, limit)
            head = _head(row)
        return self._advance(head, row, limit)

    async def _nothing_was_written(self, since: Position) -> bool:
        """Whether no transaction of the server began, ended or was forgotten since: most polls of a quiet service.

        The snapshot alone says so cheaply; after a crash of the server it may repeat itself, hence the second look.
        """

        async def work(connection: Connection) -> TupleRow:
            return await one(connection, _PROBE)

        snapshot, life = await self._connections.read(work)
        return bool(snapshot == since.snapshot and life == self._life)

    def _advance(self, head: _Head, row: TupleRow, limit: int) -> Changes:
        _, count, last_xid, newest, deleted = row[6:11]
        more = count >= limit
        reached = head.position.cut(max(int(last_xid) + 1, self.position.xmax)) if more else head.position
        upserts, nowhere = self._pointing(Rows.unpack(self._dimension, *row[11:]))
        self._position = reached
        self._remember(head)
        return Changes(upserts, [*uuids(deleted), *nowhere], reached, newest, more)

    def _pointing(self, rows: Rows) -> tuple[Rows, list[UUID]]:
        """Without the images whose vectors point nowhere, and which these are: as if they had none."""
        nowhere = directionless(rows.vectors)
        if not len(nowhere):
            return rows, []
        left_out = rows.chosen(nowhere).image_ids
        tell_passed_over(self._index, left_out)
        return rows.chosen(np.setdiff1d(np.arange(len(rows)), nowhere)), left_out

    def _remember(self, head: _Head) -> None:
        """Keeps the latest position whose transactions were all on disk, for the time after a crash."""
        self._life = head.life
        if self._undurable and self._undurable[1] <= head.flushed:
            self._durable, self._undurable = self._undurable[0], None
        if self._undurable is None:
            self._undurable = (self.position, head.written)

    async def _poll_from(self, since: Position, limit: int) -> TupleRow:
        parameters: dict[str, Any] = {
            "index": self._index,
            "fingerprint": self._fingerprint,
            "region": self._region,
            "first": self._buckets.start,
            "stop": self._buckets.stop,
            "xmin": str(since.xmin),
            "xmax": str(since.xmax),
            "running": [str(xid) for xid in since.running],
            "limit": limit,
        }

        async def work(connection: Connection) -> TupleRow | None:
            cursor = await connection.cursor(binary=True).execute(_POLL.encode(), parameters)
            return await cursor.fetchone()

        row = await self._connections.read(work)
        assert row is not None  # noqa: S101 (aggregates always give a row)
        if row[2]:
            await stamp_if_restored(self._connections)
            _refuse(self._index, "the database was restored")
        if int(row[1]) != since.epoch:
            _refuse(self._index, "the position belongs to the time before a restore")
        if row[6]:
            _refuse(self._index, "the log was trimmed past the position because its lease had ended")
        return row

    def _selection(self) -> tuple[Any, ...]:
        return self._index, self._fingerprint, self._region, self._buckets.start, self._buckets.stop

    async def _read_dimension(self, connection: Connection) -> int:
        found = await rows(connection, "SELECT dimension FROM indexes WHERE index_name = %s", self._index)
        if not found:
            detail = f"there is no index {self._index}: create it first"
            raise ProblemError(ProblemType.INDEX_NOT_FOUND, detail)
        return self._given_dimension or int(found[0][0])


def _head(row: TupleRow) -> _Head:
    snapshot, epoch, restored, life, written, flushed = row[:6]
    return _Head(Position.of_snapshot(int(epoch), snapshot), restored, life, int(written), int(flushed))


def _refuse(index: str, why: str) -> Position:
    raise LogTrimmed(f"the change log of index {index} cannot be followed on: {why}; load again")
