"""Shadows: a candidate answers a share of the searches beside the active generation, for comparison alone.

An index has one at a time, held by a job: shards have the candidate loaded and gateways ask for it while the job renews
its lease, and no longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.errors import ProblemError, ProblemType

LIVE_SHADOW = """SELECT FROM shadows s WHERE s.index_name = generations.index_name
    AND s.generation = generations.generation AND s.lease_until > clock_timestamp()"""
"""Of a row of `generations`: somebody holds a shadow of it."""


@dataclass(frozen=True)
class Shadow:
    """What gateways need to know: this share of the searches is asked of both generations."""

    generation: str
    against: str
    share: float


@dataclass(frozen=True)
class ShadowProgress:
    """How far a shadow is: since when gateways ask, for how many seconds, and how many searches both answered."""

    begun_at: datetime | None
    elapsed_s: float
    queries: int


@dataclass(frozen=True)
class ShadowQuery:
    """One search as both generations answered it. Scores are means of the hits' cosines, times CPU of the slowest shard."""

    query_id: UUID
    image_id: UUID | None
    """The image that was searched with, if it is one of the index."""
    overlap: float | None
    """Share of the active generation's hits that the candidate has, too; None where there were none."""
    score_before: float | None
    score_after: float | None
    ms_before: float
    ms_after: float | None
    """None where the candidate did not answer in time."""
    lost: Sequence[UUID]
    """The active generation's hits that the candidate has not."""


class Shadows:
    """Begins, renews and ends shadows, and takes in what gateways compare."""

    connections: Connections

    async def begin_shadow(
        self, index: str, generation: str, share: float, fence: Fence, lease_s: float
    ) -> str:
        """Has shards load a candidate beside the active generation, whose name is returned; of several the last one wins.

        One that the same generations were in goes on. Raises ProblemError CONFLICT where the generation is not `ready`,
        where nothing is active, or where the job is no longer the caller's.
        """
        states = (
            "SELECT generation, state FROM generations WHERE index_name = %s AND state IN ('ready', 'active')"
        )
        other = "DELETE FROM shadows WHERE index_name = %s AND (generation, against) <> (%s, %s)"
        stale = "UPDATE replicas SET problem = NULL WHERE index_name = %s AND strpos(problem, %s) > 0"
        put = """INSERT INTO shadows (index_name, generation, against, job_id, share, lease_until)
            VALUES (%s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))
            ON CONFLICT (index_name) DO UPDATE SET job_id = excluded.job_id, share = excluded.share,
                lease_until = excluded.lease_until"""

        async def work(transaction: Transaction) -> str:
            connection = transaction.connection
            await check_fence(connection, fence)
            found: dict[str, str] = dict(await rows(connection, states, index))
            against = _against(index, generation, found)
            await run(connection, other, index, generation, against)
            # What kept shards from loading it the last time must not end this time before it began.
            await run(connection, stale, index, f"{generation}: ")
            await run(connection, put, index, generation, against, fence.job_id, share, lease_s)
            return against

        return await self.connections.write(work)

    async def renew_shadow(self, index: str, fence: Fence, lease_s: float) -> ShadowProgress | None:
        """Keeps the job's shadow; None when it is over: another one took its place, or a generation was activated."""
        query = """UPDATE shadows s SET lease_until = clock_timestamp() + make_interval(secs => %s)
            FROM generations g, generations a
            WHERE s.index_name = %s AND s.job_id = %s
                AND g.index_name = s.index_name AND g.generation = s.generation AND g.state = 'ready'
                AND a.index_name = s.index_name AND a.generation = s.against AND a.state = 'active'
            RETURNING s.begun_at, coalesce(extract(epoch FROM clock_timestamp() - s.begun_at), 0)::float8,
                (SELECT count(*) FROM shadow_queries q WHERE q.index_name = s.index_name AND q.ms_after IS NOT NULL)"""

        async def work(transaction: Transaction) -> ShadowProgress | None:
            found = await rows(transaction.connection, query, lease_s, index, fence.job_id)
            return ShadowProgress(*found[0]) if found else None

        return await self.connections.write(work)

    async def start_shadow(self, index: str, fence: Fence) -> None:
        """Lets gateways ask: every replica has the candidate loaded."""
        query = "UPDATE shadows SET begun_at = clock_timestamp() WHERE index_name = %s AND job_id = %s AND begun_at IS NULL"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, fence.job_id)

        await self.connections.write(work)

    async def live_shadow(self, index: str) -> Shadow | None:
        """The shadow that gateways are to ask for now."""
        query = """SELECT generation, against, share FROM shadows
            WHERE index_name = %s AND begun_at IS NOT NULL AND lease_until > clock_timestamp()"""

        async def work(connection: Connection) -> Shadow | None:
            found = await rows(connection, query, index)
            return Shadow(*found[0]) if found else None

        return await self.connections.read(work)

    async def note_shadow_queries(self, index: str, shadow: Shadow, queries: Sequence[ShadowQuery]) -> None:
        """Takes in what was compared; what comes when the shadow is over is forgotten."""
        query = """INSERT INTO shadow_queries (index_name, query_id, image_id, overlap, score_before, score_after,
                ms_before, ms_after, lost)
            SELECT s.index_name, %s, %s::uuid, %s::float8, %s::float8, %s::float8, %s, %s::float8, %s::uuid[]
            FROM shadows s WHERE s.index_name = %s AND s.generation = %s AND s.against = %s
            FOR KEY SHARE ON CONFLICT DO NOTHING"""

        async def work(transaction: Transaction) -> None:
            for one in queries:
                figures = (one.overlap, one.score_before, one.score_after, one.ms_before, one.ms_after)
                of = (index, shadow.generation, shadow.against)
                values = (one.query_id, one.image_id, *figures, list(one.lost), *of)
                await run(transaction.connection, query, *values)

        await self.connections.write(work)

    async def shadow_queries(self, index: str) -> list[ShadowQuery]:
        """What was compared so far, in the order in which it came."""
        query = """SELECT query_id, image_id, overlap, score_before, score_after, ms_before, ms_after, lost
            FROM shadow_queries WHERE index_name = %s ORDER BY asked_at, query_id"""

        async def work(connection: Connection) -> list[ShadowQuery]:
            return [ShadowQuery(*row) for row in await rows(connection, query, index)]

        return await self.connections.read(work)

    async def end_shadow(
        self, index: str, generation: str, fence: Fence, report: Mapping[str, Any] | None
    ) -> None:
        """Ends the job's shadow and keeps the report with the generation. ProblemError CONFLICT: it is not the caller's."""
        keep = "UPDATE generations SET shadow = %s WHERE index_name = %s AND generation = %s"
        end = "DELETE FROM shadows WHERE index_name = %s AND job_id = %s"

        async def work(transaction: Transaction) -> None:
            connection = transaction.connection
            if report is not None:
                await check_fence(connection, fence)
                await run(connection, keep, Jsonb(dict(report)), index, generation)
            await run(connection, end, index, fence.job_id)

        await self.connections.write(work)


def _against(index: str, generation: str, states: Mapping[str, str]) -> str:
    active = [name for name, state in states.items() if state == "active"]
    if states.get(generation) != "ready":
        detail = f"generation {generation} of index {index} is not ready: only a candidate that waits can be a shadow"
        raise ProblemError(ProblemType.CONFLICT, detail)
    if not active:
        detail = (
            f"index {index} has no active generation that {generation} could be compared with: activate one"
        )
        raise ProblemError(ProblemType.CONFLICT, detail)
    return active[0]
