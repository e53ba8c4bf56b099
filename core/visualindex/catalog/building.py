"""What a build of a generation holds of the catalog: its place in the change log, its turn to publish, and its job."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from visualindex.catalog.connections import Connection, one, rows
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.catalog.migrate import stamp_if_restored
from visualindex.catalog.positions import Position
from visualindex.catalog.replicas import Replicas

BUILD_LEASE_S = 120.0
"""Seconds for which a build that is silent keeps the log from being trimmed."""
_NO_SHARD = -1
"""Under which builds stand among the replicas: they hold the log as these do, and answer nothing."""


class Building(Replicas):
    """Places of builds in the log, and turns."""

    async def begin_build(self, index: str, build: str) -> Position:
        """Where the log stands now, held for `build` until `end_build`: whatever is read later was read at this or after it.

        A commit follows the position, so that it is on disk before anybody builds on it: no transaction that it covers is
        lost with the server.
        """
        await stamp_if_restored(self.connections)

        async def work(connection: Connection) -> Position:
            query = "SELECT pg_current_snapshot()::text, (SELECT value FROM meta WHERE key = 'epoch')"
            snapshot, epoch = await one(connection, query)
            return Position.of_snapshot(int(epoch), snapshot)

        position = await self.connections.read(work)
        await self.keep_build(index, build, position)
        return position

    async def keep_build(self, index: str, build: str, position: Position) -> None:
        """Hold the log at the build's position for `BUILD_LEASE_S` more. Raises as `heartbeat`."""
        await self.heartbeat(index, _NO_SHARD, build, position, 0, BUILD_LEASE_S, loading=True)

    async def end_build(self, index: str, build: str) -> None:
        """The log need not wait for the build any more: its generation does that now, or it gave up."""
        await self.release(index, _NO_SHARD, build)

    @asynccontextmanager
    async def publishing_turn(self, index: str, fence: Fence | None = None) -> AsyncIterator[None]:
        """One at a time for an index: whoever begins to publish a shard, and whoever deletes what no generation needs.

        A job shows its `fence`: ProblemError CONFLICT when it is no longer the caller's.
        """
        async with self.connections.exclusive(_lock(index)) as connection:
            await check_fence(connection, fence)
            yield

    async def holds_job(self, fence: Fence) -> bool:
        """Whether the job is still the caller's."""

        async def work(connection: Connection) -> bool:
            query = "SELECT 1 FROM jobs WHERE job_id = %s AND fence = %s AND state = 'running'"
            return bool(await rows(connection, query, fence.job_id, fence.number))

        return await self.connections.read(work)


def _lock(index: str) -> int:
    """Of Postgres' advisory locks, which are 64-bit numbers."""
    digest = hashlib.sha256(f"visualindex publishing {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
