"""What the database says of the rebuilds of an index, for who looks after them from outside the service."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from visualindex.catalog.connections import Connection, from_outside, one, rows, run
from visualindex.catalog.jobs import APART, PLACE, REINDEX, JobState

_OPEN = "('queued', 'running', 'paused')"
# Of those under way one may be queued or running, and any number paused; of those that ended the last counts.
_JOBS = f"""SELECT job_id, state, coalesce(parameters ->> '{PLACE}', '') = '{APART}', phase, done, total,
        coalesce(lease_until > clock_timestamp(), false), lease_until,
        (SELECT count(*) FROM job_chunks c WHERE c.job_id = j.job_id),
        requested_at, started_at, ended_at, coalesce(problem, ''), coalesce(result, '{{}}')
    FROM jobs j WHERE index_name = %s AND kind = '{REINDEX}'"""  # noqa: S608 (constants)
_UNDER_WAY = f"{_JOBS} AND state IN {_OPEN} ORDER BY state = 'paused', requested_at DESC LIMIT 1"
_ENDED = f"{_JOBS} AND state NOT IN {_OPEN} ORDER BY ended_at DESC LIMIT 1"


@dataclass(frozen=True)
class ReindexInspected:
    """A rebuild: `apart` when gateways leave it alone, `held` while a process holds it; `chunks` are those committed."""

    job_id: UUID
    state: JobState
    apart: bool
    phase: str
    done: int
    total: int
    held: bool
    lease_until: datetime | None
    chunks: int
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    problem: str
    result: dict[str, Any]


async def reindexes(
    connection: Connection, index: str
) -> tuple[ReindexInspected | None, ReindexInspected | None]:
    """The rebuild that is under way, and the one that ended last; neither in a database without this release's schema."""
    if not (await one(connection, "SELECT to_regclass('job_chunks') IS NOT NULL"))[0]:
        return None, None
    found = [await rows(connection, query, index) for query in (_UNDER_WAY, _ENDED)]
    under_way, ended = (ReindexInspected(*row[0]) if row else None for row in found)
    return under_way, ended


async def fail_job(dsn: str, job_id: UUID, problem: str, *, timeout_s: float = 5.0) -> bool:
    """Notes that a job cannot be begun; False when it has ended or somebody holds it. Raises ProblemError UNAVAILABLE."""
    query = """UPDATE jobs SET state = 'failed', problem = %s, ended_at = now(), lease_until = NULL
        WHERE job_id = %s AND state IN ('queued', 'running')
            AND (lease_until IS NULL OR lease_until < clock_timestamp())"""
    async with from_outside(dsn, timeout_s) as connection:
        return bool(await run(connection, query, problem, job_id))
