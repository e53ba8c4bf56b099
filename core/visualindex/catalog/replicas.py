"""What each replica has applied, for how long its lease holds the log, and the trimming of what nobody needs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from visualindex.catalog.changes import LogTrimmed
from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.positions import Position

_LIVE = "index_name = %(index)s AND lease_until > now()"
# The first transaction that a live replica, or a kept generation, may still have to read.
_HORIZON = f"""SELECT least(
    (SELECT min(pg_snapshot_xmin(position)) FROM replicas WHERE {_LIVE}),
    (SELECT min(pg_snapshot_xmin(watermark)) FROM generations
        WHERE index_name = %(index)s AND state NOT IN ('retired', 'gone')),
    pg_snapshot_xmin(pg_current_snapshot()))"""  # noqa: S608 (constants)
_TRIM = f"""
WITH old AS (
    SELECT seq FROM changes WHERE index_name = %(index)s AND xid < ({_HORIZON})
        AND changed_at < now() - make_interval(secs => %(keep_s)s)
    ORDER BY xid LIMIT %(limit)s
), gone AS (
    DELETE FROM changes WHERE seq IN (SELECT seq FROM old) RETURNING xid
), noted AS (
    UPDATE indexes SET trimmed_through = greatest(trimmed_through, (SELECT max(xid) FROM gone))
    WHERE index_name = %(index)s AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone"""  # noqa: S608 (constants)
_STATUS = f"""SELECT count(*), extract(epoch FROM now() - min(changed_at))::float8, ({_HORIZON})::text
    FROM changes WHERE index_name = %(index)s"""  # noqa: S608 (constants)
_HOLDING_REPLICA = f"""SELECT shard, replica, extract(epoch FROM now() - updated_at)::float8 FROM replicas
    WHERE {_LIVE} ORDER BY pg_snapshot_xmin(position), updated_at LIMIT 1"""  # noqa: S608 (constants)
_HOLDING_BACKEND = """SELECT pid, datname, left(query, 200), extract(epoch FROM now() - xact_start)::float8
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY age(backend_xid) DESC LIMIT 1"""


@dataclass(frozen=True)
class ReplicaPosition:
    """What one live replica of a shard has applied."""

    shard: int
    replica: str
    position: Position
    rows: int
    updated_at: datetime


@dataclass(frozen=True)
class HoldingReplica:
    """The live replica that is furthest behind; `silent_s` is the time since its last heartbeat."""

    shard: int
    replica: str
    silent_s: float


@dataclass(frozen=True)
class HoldingBackend:
    """The longest open write transaction of the whole server, whatever its database."""

    pid: int
    database: str
    query: str
    open_s: float


@dataclass(frozen=True)
class LogStatus:
    """How long the log is and who holds it. `oldest_s` is the age of its oldest row, None when it is empty."""

    rows: int
    oldest_s: float | None
    horizon: int
    replica: HoldingReplica | None
    backend: HoldingBackend | None


@dataclass(frozen=True)
class ReplicaAddress:
    """Where a loaded replica is reached, `host:port`, and which generations it can answer for."""

    index: str
    shard: int
    shards: int | None
    """The number of shards it belongs to; None for one of the release before, whose index has the spec's number."""
    address: str
    generations: frozenset[str]


@dataclass(frozen=True)
class ReplicaLoad:
    """What a live replica has loaded, and what keeps it from loading more."""

    shard: int
    shards: int | None
    replica: str
    generations: frozenset[str]
    rows: int
    fresh: int
    """Rows, of these, that no generation holds."""
    problem: str | None
    recall: float | None
    """Live recall of its part: share of the true hits that sampled searches found; None before the first sample."""
    recall_samples: int
    seen_at: datetime


class Replicas:
    """Leases of replicas and the length of the log."""

    connections: Connections

    async def heartbeat(
        self,
        index: str,
        shard: int,
        replica: str,
        position: Position,
        rows: int,
        lease_s: float = 60.0,
        *,
        loading: bool = False,
        address: str | None = None,
        shards: int | None = None,
        generations: Collection[str] = (),
        fresh_rows: int = 0,
        problem: str | None = None,
        recall: float | None = None,
        recall_samples: int = 0,
    ) -> None:
        """Notes what the replica has applied and keeps its place in the log for `lease_s` seconds.

        A replica that is `loading` holds its place without counting as one that has applied anything. Gateways reach it
        at `address`, `host:port`, with searches of `generations`. Raises LogTrimmed when the position is from before a
        restore.
        """
        query = """INSERT INTO replicas
                (index_name, shard, replica, position, row_count, loading, address, shards, generations,
                fresh_rows, problem, recall, recall_samples, lease_until)
            VALUES (%s, %s, %s, %s::text::pg_snapshot, %s, %s, %s, %s, %s::text[], %s, %s, %s, %s,
                clock_timestamp() + make_interval(secs => %s))
            ON CONFLICT (index_name, shard, replica) DO UPDATE SET position = excluded.position,
                row_count = excluded.row_count, loading = excluded.loading, address = excluded.address,
                shards = excluded.shards, generations = excluded.generations,
                fresh_rows = excluded.fresh_rows, problem = excluded.problem,
                recall = excluded.recall, recall_samples = excluded.recall_samples,
                lease_until = excluded.lease_until, updated_at = now()"""

        async def work(transaction: Transaction) -> None:
            if position.epoch != transaction.epoch:
                raise LogTrimmed(
                    f"the position of {replica} is from before a restore of index {index}: load again"
                )
            await run(
                transaction.connection,
                query,
                index,
                shard,
                replica,
                position.snapshot,
                rows,
                loading,
                address,
                shards,
                sorted(generations),
                fresh_rows,
                problem,
                recall,
                recall_samples,
                lease_s,
            )

        await self.connections.write(work)

    async def release(self, index: str, shard: int, replica: str) -> None:
        """Ends the lease of a replica that goes away in order."""
        query = "DELETE FROM replicas WHERE index_name = %s AND shard = %s AND replica = %s"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, shard, replica)

        await self.connections.write(work)

    async def replica_positions(self, index: str, shard: int | None = None) -> list[ReplicaPosition]:
        """The loaded replicas with a live lease, of one shard or of all."""

        async def work(connection: Connection) -> list[ReplicaPosition]:
            return await _positions(connection, index, shard)

        return await self.connections.read(work)

    async def replica_addresses(self, indexes: Collection[str]) -> list[ReplicaAddress]:
        """The loaded replicas with a live lease that can be reached."""
        query = """SELECT index_name, shard, shards, address, generations FROM replicas
            WHERE index_name = ANY(%s) AND lease_until > now() AND NOT loading AND address IS NOT NULL"""

        async def work(connection: Connection) -> list[ReplicaAddress]:
            found = await rows(connection, query, list(indexes))
            return [
                ReplicaAddress(name, shard, shards, address, frozenset(loaded))
                for name, shard, shards, address, loaded in found
            ]

        return await self.connections.read(work)

    async def replica_loads(self, index: str) -> list[ReplicaLoad]:
        """What the loaded replicas with a live lease have loaded."""
        query = """SELECT shard, shards, replica, generations, row_count, fresh_rows, problem, recall, recall_samples,
                updated_at
            FROM replicas WHERE index_name = %s AND lease_until > now() AND NOT loading
            ORDER BY shards, shard, replica"""

        async def work(connection: Connection) -> list[ReplicaLoad]:
            found = await rows(connection, query, index)
            return [
                ReplicaLoad(shard, shards, replica, frozenset(loaded), *rest)
                for shard, shards, replica, loaded, *rest in found
            ]

        return await self.connections.read(work)

    async def is_indexed(self, index: str, image_id: UUID, shard: int, shards: int | None = None) -> bool:
        """Whether every live replica of `shard` has applied the image's last change; False if none is live.

        With `shards` only replicas of that many shards count: while their number changes, others are there, too.
        """

        async def work(connection: Connection) -> bool:
            return await _is_indexed(connection, index, image_id, shard, shards)

        return await self.connections.read(work)

    async def trim_log(self, index: str, *, keep_s: float = 600.0, limit: int = 10_000) -> int:
        """Deletes at most `limit` log rows that are older than `keep_s` and that no live lease or generation needs.

        Returns how many. `keep_s` is the time a new replica has from the snapshot of its load to its first heartbeat.
        """

        async def work(transaction: Transaction) -> int:
            cursor = await transaction.connection.execute(
                _TRIM.encode(), {"index": index, "keep_s": keep_s, "limit": limit}
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

        return await self.connections.write(work)

    async def log_status(self, index: str) -> LogStatus:
        """How long the log is, and what keeps it from being trimmed."""

        async def work(connection: Connection) -> LogStatus:
            return await _status(connection, index)

        return await self.connections.read(work)

    async def log_exceeds(self, index: str, rows_: int) -> bool:
        """Whether more than `rows_` rows of the log came since the active generation was built; False if none is active."""
        query = """SELECT FROM changes WHERE index_name = %s AND xid >= (
                SELECT pg_snapshot_xmin(watermark) FROM generations WHERE index_name = %s AND state = 'active')
            ORDER BY xid OFFSET %s LIMIT 1"""

        async def work(connection: Connection) -> bool:
            return bool(await rows(connection, query, index, index, rows_))

        return await self.connections.read(work)

    async def prune_replicas(self, index: str, keep_s: float = 86_400.0) -> int:
        """Forgets replicas whose lease ended more than `keep_s` seconds ago."""
        query = (
            "DELETE FROM replicas WHERE index_name = %s AND lease_until < now() - make_interval(secs => %s)"
        )

        async def work(transaction: Transaction) -> int:
            return await run(transaction.connection, query, index, keep_s)

        return await self.connections.write(work)


async def _positions(connection: Connection, index: str, shard: int | None) -> list[ReplicaPosition]:
    query = """SELECT shard, replica, position::text, row_count, updated_at,
            (SELECT value FROM meta WHERE key = 'epoch') FROM replicas
        WHERE index_name = %s AND lease_until > now() AND NOT loading
            AND (%s::int IS NULL OR shard = %s::int) ORDER BY shard, replica"""
    found: Sequence[Any] = await rows(connection, query, index, shard, shard)
    return [
        ReplicaPosition(number, replica, Position.of_snapshot(int(epoch), snapshot), count, updated_at)
        for number, replica, snapshot, count, updated_at, epoch in found
    ]


async def _is_indexed(
    connection: Connection, index: str, image_id: UUID, shard: int, shards: int | None
) -> bool:
    query = """
        WITH live AS (
            SELECT position FROM replicas WHERE index_name = %s AND shard = %s AND lease_until > now() AND NOT loading
                AND (shards IS NULL OR shards = coalesce(%s, shards))
        )
        SELECT EXISTS (SELECT FROM live) AND NOT EXISTS (
            SELECT FROM changes c WHERE c.index_name = %s AND c.image_id = %s
                AND c.xid >= (SELECT min(pg_snapshot_xmin(position)) FROM live)
                AND EXISTS (SELECT FROM live WHERE NOT pg_visible_in_snapshot(c.xid, live.position)))"""
    row = await one(connection, query, index, shard, shards, index, image_id)
    return bool(row[0])


async def _status(connection: Connection, index: str) -> LogStatus:
    parameters = {"index": index}
    head = await (await connection.execute(_STATUS.encode(), parameters)).fetchone()
    replica = await (await connection.execute(_HOLDING_REPLICA.encode(), parameters)).fetchone()
    backend = await (await connection.execute(_HOLDING_BACKEND.encode())).fetchone()
    assert head is not None  # noqa: S101 (an aggregate always gives a row)
    return LogStatus(
        rows=head[0],
        oldest_s=head[1],
        horizon=int(head[2]),
        replica=HoldingReplica(*replica) if replica else None,
        backend=HoldingBackend(*backend) if backend else None,
    )
