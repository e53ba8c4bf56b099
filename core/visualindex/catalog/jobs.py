"""Background jobs of an index: asked for once, claimed by one process at a time, and told about while they run.

Whoever claims a job gets a fence, a number that grows with every claim. Where a job changes what others see, it shows
its fence in the same transaction, so that one which was thought dead and wakes up late changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from psycopg.errors import UniqueViolation
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.errors import ProblemError, ProblemType

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
ENDED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
"""States that a job stays in, unless somebody resumes it."""
BUILD, RERANK_TRIAL = "build", "rerank-trial"
"""Kinds of jobs: build a generation (parameter `activate`: whether it is to be served); measure whether reranking helps."""
INGEST = "ingest"
"""Take in the pictures of buckets, folders, manifests and archives (parameters: `visualindex.api.ingesting`)."""
CHECK = "check"
"""Compare database, object store, generations and replicas (parameter `repair`: whether to mend what differs)."""
COMPARE = "compare"
"""Measure one generation (parameter `candidate`) against another (`against`)."""
SHADOW = "shadow"
"""Have one generation (parameter `generation`) answer a share of the searches beside the active one."""
REINDEX = "reindex"
"""Make what images lack of vectors, patches and colours from their originals, then build."""
PLACE, APART = "place", "job"
"""A parameter of jobs, and its value for one that is not the gateways' to carry out: only who names it claims it."""
LEASE_S = 30.0
"""Seconds for which a job whose process ended keeps others from taking it up."""
_ACTIVATE, _SINCE = "activate", "activate_since"
MAX_ATTEMPTS = 3
"""Times a job is begun whose process ended without a word."""


@dataclass(frozen=True)
class Fence:
    """The right to commit what a job did, as long as nobody else has claimed it."""

    job_id: UUID
    number: int


@dataclass(frozen=True)
class JobRecord:
    """A job as the catalog has it. `done` of `total` says how far its `phase` is; `total` may be 0 for unknown."""

    job_id: UUID
    index: str
    kind: str
    state: JobState
    parameters: Mapping[str, Any]
    phase: str
    done: int
    total: int
    result: Mapping[str, Any] | None
    problem: str | None
    attempts: int
    fence: Fence
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def activates_since(self) -> datetime | None:
        """When it was last asked that what it builds be served; None while nobody has."""
        if not self.parameters.get(_ACTIVATE):
            return None
        joined = self.parameters.get(_SINCE)
        return self.requested_at if joined is None else datetime.fromisoformat(joined)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobLine:
    """A line of a job's log; `number` grows from line to line, not always by one."""

    number: int
    told_at: datetime
    line: str


_COLUMNS = """job_id, index_name, kind, state, parameters, phase, done, total, result, problem, attempts, fence,
    requested_at, started_at, ended_at"""


class Jobs:
    """Requests, claims and accounts of jobs."""

    connections: Connections

    async def request_job(
        self, index: str, kind: str, parameters: Mapping[str, Any], *, joins: bool = True
    ) -> tuple[JobRecord, bool]:
        """Asks for a job; one of its kind that is open already is returned instead, with False.

        That one activates what it builds from then on if `parameters` want it, unless the caller `joins` no other's job.
        """

        async def work(transaction: Transaction) -> tuple[JobRecord, bool]:
            job, made = await ask(transaction.connection, index, kind, parameters)
            if not made and joins and parameters.get(_ACTIVATE):
                job = await _activating(transaction.connection, job)
            return job, made

        return await self.connections.write(work)

    async def claim_job(
        self, index: str, lease_s: float, *, job_id: UUID | None = None, leaves: str = ""
    ) -> JobRecord | None:
        """The oldest job that nobody holds (or the one that is named), for `lease_s` seconds; None when there is none.

        Jobs of the kind `leaves` are left to others, and jobs with a place apart (parameter PLACE: APART) to who names them.
        One whose holder ended without a word is given up after three attempts, or as many as its parameter `attempts` says.
        Every gateway asks each second, and seldom for something, so that a read tells first whether to write.
        """
        free = "(state = 'queued' OR (state = 'running' AND lease_until < clock_timestamp()))"
        mine = f"""(job_id = %s::uuid OR (%s::uuid IS NULL AND parameters ->> '{PLACE}' IS DISTINCT FROM '{APART}'))
            AND {free} AND kind <> %s"""
        look = f"SELECT 1 FROM jobs WHERE index_name = %s AND {mine} LIMIT 1"  # noqa: S608 (constants)
        which = index, job_id, job_id, leaves
        give_up = """UPDATE jobs SET state = 'failed', ended_at = now(), lease_until = NULL,
                problem = format('its process ended without a word, %%s times; the last phase was %%s', attempts, phase)
            WHERE index_name = %s AND state = 'running' AND lease_until < clock_timestamp()
                AND attempts >= coalesce((parameters ->> 'attempts')::int, %s)"""
        claim = f"""UPDATE jobs SET state = 'running', fence = fence + 1, attempts = attempts + 1, phase = 'starting',
                done = 0, total = 0, started_at = coalesce(started_at, now()),
                lease_until = clock_timestamp() + make_interval(secs => %s)
            WHERE job_id = (SELECT job_id FROM jobs WHERE index_name = %s AND {mine}
                ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING {_COLUMNS}"""  # noqa: S608 (constants)

        async def work(transaction: Transaction) -> JobRecord | None:
            await run(transaction.connection, give_up, index, MAX_ATTEMPTS)
            claimed = await rows(transaction.connection, claim, lease_s, *which)
            if not claimed:
                return None
            record = _record(claimed[0])
            await _tell(transaction.connection, record.job_id, f"begun, the {record.fence.number}. time")
            return record

        if not await self.connections.read(lambda connection: rows(connection, look, *which)):
            return None
        return await self.connections.write(work)

    async def renew_job(self, fence: Fence, phase: str, done: int, total: int, lease_s: float) -> bool:
        """Tells how far the job is and keeps it; False when it was cancelled or claimed by another."""
        query = """WITH mine AS (
                SELECT job_id, phase FROM jobs WHERE job_id = %s AND fence = %s AND state = 'running' FOR UPDATE
            ), told AS (
                INSERT INTO job_log (job_id, line) SELECT job_id, %s FROM mine WHERE phase <> %s
            )
            UPDATE jobs SET phase = %s, done = %s, total = %s,
                lease_until = clock_timestamp() + make_interval(secs => %s)
            FROM mine WHERE jobs.job_id = mine.job_id"""

        async def work(transaction: Transaction) -> bool:
            values = (fence.job_id, fence.number, phase, phase, phase, done, total, lease_s)
            return bool(await run(transaction.connection, query, *values))

        return await self.connections.write(work)

    async def end_job(
        self, fence: Fence, *, result: Mapping[str, Any] | None = None, problem: str | None = None
    ) -> bool:
        """Notes the end: done with a result, or failed with a problem; False when it is no longer the caller's."""
        query = """UPDATE jobs SET state = %s, result = %s, problem = %s, phase = 'ended', ended_at = now(),
                lease_until = NULL
            WHERE job_id = %s AND fence = %s AND state = 'running'"""
        state = "done" if problem is None else "failed"

        async def work(transaction: Transaction) -> bool:
            document = None if result is None else Jsonb(dict(result))
            values = (state, document, problem, fence.job_id, fence.number)
            ended = bool(await run(transaction.connection, query, *values))
            if ended:
                line = "done" if problem is None else f"failed: {problem}"
                await _tell(transaction.connection, fence.job_id, line)
            return ended

        return await self.connections.write(work)

    async def release_job(self, fence: Fence, why: str) -> bool:
        """Gives a job back to those that wait, for another process to go on with at once; False when it is not the caller's.

        That it was begun does not count as an attempt: nothing went wrong with it.
        """
        query = """UPDATE jobs SET state = 'queued', lease_until = clock_timestamp(), attempts = greatest(0, attempts - 1)
            WHERE job_id = %s AND fence = %s AND state = 'running'"""

        async def work(transaction: Transaction) -> bool:
            released = bool(await run(transaction.connection, query, fence.job_id, fence.number))
            if released:
                await _tell(transaction.connection, fence.job_id, f"given back: {why}")
            return released

        return await self.connections.write(work)

    async def cancel_job(self, index: str, job_id: UUID) -> JobRecord:
        """Cancels a job that has not ended; it stops within seconds. Raises ProblemError NOT_FOUND or CONFLICT."""
        query = """UPDATE jobs SET state = 'cancelled', ended_at = now(), lease_until = NULL
            WHERE job_id = %s AND index_name = %s AND state IN ('queued', 'running', 'paused')"""

        async def work(transaction: Transaction) -> JobRecord:
            cancelled = await run(transaction.connection, query, job_id, index)
            record = await _get(transaction.connection, index, job_id)
            if not cancelled:
                raise ProblemError(ProblemType.CONFLICT, f"job {job_id} is {record.state} already")
            await _tell(transaction.connection, job_id, "cancelled")
            return record

        return await self.connections.write(work)

    async def pause_job(self, index: str, job_id: UUID) -> JobRecord:
        """Takes a job out of the hands that hold it, which notice within seconds and commit nothing more.

        It stays paused until `resume_job`, and keeps no other job of its kind waiting. Raises ProblemError NOT_FOUND or
        CONFLICT.
        """
        query = """UPDATE jobs SET state = 'paused', lease_until = NULL
            WHERE job_id = %s AND index_name = %s AND state IN ('queued', 'running')"""

        async def work(transaction: Transaction) -> JobRecord:
            paused = await run(transaction.connection, query, job_id, index)
            record = await _get(transaction.connection, index, job_id)
            if not paused:
                detail = f"job {job_id} is {record.state}: only one that waits or runs can be paused"
                raise ProblemError(ProblemType.CONFLICT, detail)
            return record

        return await self.connections.write(work)

    async def resume_job(self, index: str, job_id: UUID) -> JobRecord:
        """Puts a job that was paused, or that failed, back to those that wait; what it did before is not lost to it.

        Raises ProblemError NOT_FOUND, or CONFLICT, also while another job of its kind is under way.
        """
        query = """UPDATE jobs SET state = 'queued', attempts = 0, problem = NULL, ended_at = NULL
            WHERE job_id = %s AND index_name = %s AND state IN ('paused', 'failed')"""

        async def work(transaction: Transaction) -> JobRecord:
            try:
                resumed = await run(transaction.connection, query, job_id, index)
            except UniqueViolation as error:
                detail = f"job {job_id} cannot go on while another job of its kind is under way: cancel one, or wait"
                raise ProblemError(ProblemType.CONFLICT, detail) from error
            record = await _get(transaction.connection, index, job_id)
            if not resumed:
                detail = f"job {job_id} is {record.state}: only one that is paused or failed can go on"
                raise ProblemError(ProblemType.CONFLICT, detail)
            return record

        return await self.connections.write(work)

    async def get_job(self, index: str, job_id: UUID) -> JobRecord:
        """A job; ProblemError NOT_FOUND."""

        async def work(connection: Connection) -> JobRecord:
            return await _get(connection, index, job_id)

        return await self.connections.read(work)

    async def list_jobs(self, index: str, limit: int = 50) -> list[JobRecord]:
        """The latest jobs, the newest first."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE index_name = %s ORDER BY requested_at DESC LIMIT %s"  # noqa: S608

        async def work(connection: Connection) -> list[JobRecord]:
            return [_record(row) for row in await rows(connection, query, index, limit)]

        return await self.connections.read(work)

    async def jobs_at_work(self, limit: int = 50) -> list[JobRecord]:
        """Jobs of all indexes that run now, the one that was begun first at the front."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running' ORDER BY started_at LIMIT %s"  # noqa: S608

        async def work(connection: Connection) -> list[JobRecord]:
            return [_record(row) for row in await rows(connection, query, limit)]

        return await self.connections.read(work)

    async def tell_job(self, fence: Fence, line: str) -> None:
        """Adds a line to the job's log, whoever holds it."""

        async def work(transaction: Transaction) -> None:
            await _tell(transaction.connection, fence.job_id, line)

        await self.connections.write(work)

    async def job_log(self, index: str, job_id: UUID, after: int = 0, limit: int = 1_000) -> list[JobLine]:
        """What a job told of itself beyond line `after`, the oldest first. Raises ProblemError NOT_FOUND."""
        query = "SELECT seq, told_at, line FROM job_log WHERE job_id = %s AND seq > %s ORDER BY seq LIMIT %s"

        async def work(connection: Connection) -> list[JobLine]:
            await _get(connection, index, job_id)
            return [JobLine(*row) for row in await rows(connection, query, job_id, after, limit)]

        return await self.connections.read(work)

    async def old_jobs(self, index: str, keep_days: int = 90, limit: int = 100) -> list[UUID]:
        """Jobs that ended more than `keep_days` days ago, the oldest first, and may be forgotten with what they stored."""
        query = """SELECT job_id FROM jobs WHERE index_name = %s AND ended_at < now() - make_interval(days => %s)
            ORDER BY ended_at LIMIT %s"""

        async def work(connection: Connection) -> list[UUID]:
            return [job_id for (job_id,) in await rows(connection, query, index, keep_days, limit)]

        return await self.connections.read(work)

    async def forget_job(self, index: str, job_id: UUID) -> None:
        """Forgets a job that has ended."""
        query = "DELETE FROM jobs WHERE index_name = %s AND job_id = %s AND ended_at IS NOT NULL"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, job_id)

        await self.connections.write(work)


async def ask(
    connection: Connection, index: str, kind: str, parameters: Mapping[str, Any]
) -> tuple[JobRecord, bool]:
    """As `Jobs.request_job`, within the caller's transaction."""
    insert = f"""INSERT INTO jobs (job_id, index_name, kind, parameters) VALUES (%s, %s, %s, %s)
        ON CONFLICT (index_name, kind) WHERE state IN ('queued', 'running') DO NOTHING
        RETURNING {_COLUMNS}"""  # noqa: S608 (constants)
    open_ones = f"""SELECT {_COLUMNS} FROM jobs WHERE index_name = %s AND kind = %s
        AND state IN ('queued', 'running')"""  # noqa: S608 (constants)
    made = await rows(connection, insert, uuid4(), index, kind, Jsonb(dict(parameters)))
    if made:
        return _record(made[0]), True
    there = await rows(connection, open_ones, index, kind)
    if not there:
        raise _just_ended(index, kind)
    return _record(there[0]), False


async def _activating(connection: Connection, job: JobRecord) -> JobRecord:
    """The open job with the wish that what it builds be served; a rollback before this moment does not speak against it."""
    query = f"""UPDATE jobs SET parameters = parameters || jsonb_build_object(%s::text, true, %s::text, clock_timestamp())
        WHERE job_id = %s AND state IN ('queued', 'running') RETURNING {_COLUMNS}"""  # noqa: S608 (constants)
    joined = await rows(connection, query, _ACTIVATE, _SINCE, job.job_id)
    if not joined:
        raise _just_ended(job.index, job.kind)
    return _record(joined[0])


def _just_ended(index: str, kind: str) -> ProblemError:
    detail = f"the {kind} of index {index} that was under way has just ended: ask again"
    return ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)


async def cancel_open(connection: Connection, index: str, kind: str) -> bool:
    """Cancels the job of its kind that has not ended, within the caller's transaction; whether there was one."""
    query = """UPDATE jobs SET state = 'cancelled', ended_at = now(), lease_until = NULL
        WHERE index_name = %s AND kind = %s AND state IN ('queued', 'running')"""
    return bool(await run(connection, query, index, kind))


async def check_fence(connection: Connection, fence: Fence | None) -> None:
    """Raises ProblemError CONFLICT unless the job is still the caller's; it stays so until the transaction ends."""
    if fence is None:
        return
    query = "SELECT FROM jobs WHERE job_id = %s AND fence = %s AND state = 'running' FOR UPDATE"
    if not await rows(connection, query, fence.job_id, fence.number):
        detail = (
            f"job {fence.job_id} was cancelled, paused or taken over by another process: nothing is committed"
        )
        raise ProblemError(ProblemType.CONFLICT, detail)


async def _tell(connection: Connection, job_id: UUID, line: str) -> None:
    await run(connection, "INSERT INTO job_log (job_id, line) VALUES (%s, %s)", job_id, line)


async def _get(connection: Connection, index: str, job_id: UUID) -> JobRecord:
    query = f"SELECT {_COLUMNS} FROM jobs WHERE index_name = %s AND job_id = %s"  # noqa: S608 (constants)
    found = await rows(connection, query, index, job_id)
    if not found:
        raise ProblemError(ProblemType.NOT_FOUND, f"index {index} has no job {job_id}")
    return _record(found[0])


def _record(row: TupleRow) -> JobRecord:
    job_id, *rest, fence, requested_at, started_at, ended_at = row
    index, kind, state, parameters, phase, done, total, result, problem, attempts = rest
    return JobRecord(
        job_id,
        index,
        kind,
        state,
        parameters,
        phase,
        done,
        total,
        result,
        problem,
        attempts,
        Fence(job_id, fence),
        requested_at,
        started_at,
        ended_at,
    )
