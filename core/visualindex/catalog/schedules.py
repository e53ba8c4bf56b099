"""Runs of schedules: each of their times is decided on once, whichever process looks first, together with its job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.jobs import ask, cancel_open
from visualindex.scheduling import Due, Schedule, due

Outcome = Literal["requested", "replaced", "skipped", "late"]


@dataclass(frozen=True)
class ScheduleRun:
    """What was decided of one time of a schedule. `missed` times before it passed while nobody looked."""

    name: str
    scheduled_at: datetime
    decided_at: datetime
    outcome: Outcome
    missed: int
    job_id: UUID | None
    became: str | None = None
    """Where its job stands, or `refused` where the quality gate kept what it built; None without one, or long after."""
    problem: str | None = None
    """Why its job failed, or did not activate what it built."""


class Schedules:
    """Decides on the times of schedules and remembers the decisions."""

    connections: Connections

    async def run_schedule(
        self,
        index: str,
        schedule: Schedule,
        kind: str,
        parameters: Mapping[str, Any],
        *,
        now: datetime | None = None,
    ) -> ScheduleRun | None:
        """Asks for a job of `kind` if the schedule's time has come, and returns what was decided; None when it has not.

        A schedule that is new, or has other times than before, begins now. `now` is the database's clock unless given.
        """

        async def nothing_to_do(connection: Connection) -> bool:
            query = """SELECT expression, considered_through, clock_timestamp() FROM schedules
                WHERE index_name = %s AND name = %s"""
            found = await rows(connection, query, index, schedule.name)
            if not found or found[0][0] != schedule.expression:
                return False
            # A time that passes while it is suspended is considered too, so that it does not run later.
            return due(replace(schedule, suspended=False), found[0][1], now or found[0][2]) is None

        async def work(transaction: Transaction) -> ScheduleRun | None:
            connection = transaction.connection
            moment = now or (await one(connection, "SELECT clock_timestamp()"))[0]
            considered = await _considered(connection, index, schedule, moment)
            found = due(schedule, considered, moment)
            if found is not None or schedule.suspended:
                await _consider(connection, index, schedule, moment)
            if found is None:
                return None
            return await _decide(connection, index, schedule, found, moment, (kind, parameters))

        if await self.connections.read(nothing_to_do):
            return None
        return await self.connections.write(work)

    async def list_schedule_runs(
        self, index: str, name: str | None = None, limit: int = 50
    ) -> list[ScheduleRun]:
        """What was decided last, the newest first; of one schedule, or of all."""
        query = """SELECT r.name, r.scheduled_at, r.decided_at, r.outcome, r.missed, r.job_id,
                CASE WHEN j.result ->> 'gate' = 'refused' THEN 'refused' ELSE j.state END,
                coalesce(j.problem, j.result ->> 'kept_back')
            FROM schedule_runs r LEFT JOIN jobs j USING (job_id)
            WHERE r.index_name = %s AND (%s::text IS NULL OR r.name = %s) ORDER BY r.scheduled_at DESC, r.name LIMIT %s"""

        async def work(connection: Connection) -> list[ScheduleRun]:
            return [ScheduleRun(*row) for row in await rows(connection, query, index, name, name, limit)]

        return await self.connections.read(work)

    async def forget_schedules(self, index: str, kept: Sequence[str], keep_days: int = 90) -> None:
        """Forgets schedules that are gone from the spec, and decisions of more than `keep_days` days ago.

        One whose times were looked at within a day is left: the caller's spec may be the one before, which lacks it yet.
        """
        gone = """DELETE FROM schedules WHERE index_name = %s AND name <> ALL(%s)
            AND considered_through < now() - interval '1 day'"""
        old = "DELETE FROM schedule_runs WHERE index_name = %s AND decided_at < now() - make_interval(days => %s)"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, gone, index, list(kept))
            await run(transaction.connection, old, index, keep_days)

        await self.connections.write(work)


async def _considered(connection: Connection, index: str, schedule: Schedule, now: datetime) -> datetime:
    """Up to when all was decided; the row is the caller's until the transaction ends."""
    add = """INSERT INTO schedules (index_name, name, expression, considered_through) VALUES (%s, %s, %s, %s)
        ON CONFLICT (index_name, name) DO UPDATE SET expression = excluded.expression,
            considered_through = excluded.considered_through
        WHERE schedules.expression <> excluded.expression"""
    await run(connection, add, index, schedule.name, schedule.expression, now)
    query = "SELECT considered_through FROM schedules WHERE index_name = %s AND name = %s FOR UPDATE"
    found: datetime = (await one(connection, query, index, schedule.name))[0]
    return found


async def _consider(connection: Connection, index: str, schedule: Schedule, now: datetime) -> None:
    """Never back: a clock that is behind must not bring a time twice."""
    query = """UPDATE schedules SET considered_through = greatest(considered_through, %s)
        WHERE index_name = %s AND name = %s"""
    await run(connection, query, now, index, schedule.name)


async def _decide(
    connection: Connection,
    index: str,
    schedule: Schedule,
    found: Due,
    now: datetime,
    job: tuple[str, Mapping[str, Any]],
) -> ScheduleRun:
    kind, parameters = job
    outcome: Outcome = "late"
    job_id: UUID | None = None
    if not found.too_late:
        replaced = schedule.policy == "Replace" and await cancel_open(connection, index, kind)
        about = {**parameters, "reason": f"schedule {schedule.name}"}
        record, made = await ask(connection, index, kind, about)
        job_id = record.job_id
        outcome = "skipped" if not made else "replaced" if replaced else "requested"
    query = """INSERT INTO schedule_runs (index_name, name, scheduled_at, decided_at, outcome, missed, job_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
    decided = ScheduleRun(schedule.name, found.at, now, outcome, found.missed, job_id)
    await run(connection, query, index, schedule.name, found.at, now, outcome, found.missed, job_id)
    return decided
