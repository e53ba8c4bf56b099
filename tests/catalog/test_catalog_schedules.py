"""Runs of schedules, told by a clock of the test's own: each time is decided on once, with its job."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from visualindex.catalog import BUILD, CHECK, Catalog, ScheduleRun
from visualindex.scheduling import Schedule

from .scene import INDEX

HOURLY = Schedule("hourly", "0 * * * *", "UTC", "refresh")
NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def at(
    catalog: Catalog, now: datetime, schedule: Schedule = HOURLY, kind: str = BUILD
) -> ScheduleRun | None:
    return await catalog.run_schedule(INDEX, schedule, kind, {"activate": True}, now=now)


async def finish(catalog: Catalog) -> None:
    job = await catalog.claim_job(INDEX, 60)
    assert job is not None
    assert await catalog.end_job(job.fence, result={})


async def test_what_the_quality_gate_kept_back_is_told(catalog: Catalog) -> None:
    assert await at(catalog, NINE) is None
    assert await at(catalog, NINE + HOUR) is not None
    job = await catalog.claim_job(INDEX, 60)
    assert job is not None
    await catalog.end_job(job.fence, result={"gate": "refused", "kept_back": "too little is found"})
    (run,) = await catalog.list_schedule_runs(INDEX)
    assert (run.outcome, run.became, run.problem) == ("requested", "refused", "too little is found")


async def test_a_new_schedule_begins_now_and_each_time_asks_for_one_job(catalog: Catalog) -> None:
    assert await at(catalog, NINE + HOUR / 2) is None
    assert await at(catalog, NINE + HOUR * 0.9) is None
    first = await at(catalog, NINE + HOUR)
    assert first is not None
    assert (first.outcome, first.scheduled_at, first.missed) == ("requested", NINE + HOUR, 0)
    assert first.job_id is not None
    job = await catalog.get_job(INDEX, first.job_id)
    assert (job.kind, job.parameters) == (BUILD, {"activate": True, "reason": "schedule hourly"})
    assert await at(catalog, NINE + HOUR * 1.5) is None
    await finish(catalog)
    second = await at(catalog, NINE + 2 * HOUR)
    assert second is not None
    assert second.job_id != first.job_id
    told = [replace(second, became="queued"), replace(first, became="done")]
    assert await catalog.list_schedule_runs(INDEX) == told


async def test_processes_that_look_together_ask_once(catalog: Catalog) -> None:
    await at(catalog, NINE)
    decided = await asyncio.gather(*(at(catalog, NINE + HOUR) for _ in range(8)))
    assert len([one for one in decided if one is not None]) == 1
    assert len(await catalog.list_jobs(INDEX)) == 1


async def test_times_that_were_missed_run_once_and_late_ones_are_only_noted(catalog: Catalog) -> None:
    strict = replace(HOURLY, deadline_s=60)
    await at(catalog, NINE, strict)
    late = await at(catalog, NINE + HOUR * 3.5, strict)
    assert late is not None
    assert (late.outcome, late.missed, late.job_id) == ("late", 2, None)
    assert await at(catalog, NINE + HOUR * 3.5, strict) is None
    patient = replace(HOURLY, name="patient")
    await at(catalog, NINE, patient)
    once = await at(catalog, NINE + HOUR * 3.5, patient)
    assert once is not None
    assert (once.outcome, once.scheduled_at, once.missed) == ("requested", NINE + 3 * HOUR, 2)
    assert len(await catalog.list_jobs(INDEX)) == 1


async def test_while_the_last_run_is_under_way_the_policy_decides(catalog: Catalog) -> None:
    await at(catalog, NINE)
    first = await at(catalog, NINE + HOUR)
    skipped = await at(catalog, NINE + 2 * HOUR)
    assert first is not None
    assert skipped is not None
    assert (skipped.outcome, skipped.job_id) == ("skipped", first.job_id)
    replacing = await at(catalog, NINE + 3 * HOUR, replace(HOURLY, policy="Replace"))
    assert replacing is not None
    assert (replacing.outcome, replacing.job_id != first.job_id) == ("replaced", True)
    assert first.job_id is not None
    assert (await catalog.get_job(INDEX, first.job_id)).state == "cancelled"


async def test_what_passes_while_a_schedule_is_suspended_does_not_run_later(catalog: Catalog) -> None:
    await at(catalog, NINE)
    assert await at(catalog, NINE + HOUR * 5.5, replace(HOURLY, suspended=True)) is None
    assert await at(catalog, NINE + HOUR * 5.9) is None
    assert await at(catalog, NINE + HOUR * 6) is not None


async def test_other_times_begin_when_they_are_first_seen(catalog: Catalog) -> None:
    await at(catalog, NINE)
    moved = replace(HOURLY, cron="30 * * * *")
    assert await at(catalog, NINE + HOUR * 0.75, moved) is None
    run = await at(catalog, NINE + HOUR * 1.5, moved)
    assert run is not None
    assert run.scheduled_at == NINE + HOUR * 1.5


async def test_a_clock_that_is_behind_brings_no_time_twice(catalog: Catalog) -> None:
    await at(catalog, NINE)
    assert await at(catalog, NINE + HOUR) is not None
    assert await at(catalog, NINE + HOUR * 0.5) is None
    assert await at(catalog, NINE + HOUR) is None


async def test_the_database_has_the_clock_unless_a_test_has(catalog: Catalog) -> None:
    every_minute = replace(HOURLY, cron="* * * * *")
    assert await catalog.run_schedule(INDEX, every_minute, CHECK, {}) is None
    assert await at(catalog, datetime.now(UTC) + timedelta(minutes=2), every_minute, CHECK) is not None


async def test_schedules_that_are_gone_and_old_runs_are_forgotten(catalog: Catalog) -> None:
    await at(catalog, NINE)
    await at(catalog, NINE + HOUR)
    await catalog.forget_schedules(INDEX, [], keep_days=90)
    assert await catalog.list_schedule_runs(INDEX) == []
    assert await at(catalog, NINE + 5 * HOUR) is None


async def test_a_gateway_of_the_spec_before_does_not_take_a_new_schedule_back(catalog: Catalog) -> None:
    """Both run during a rollout. A time that came before the next look would be lost with the schedule's row."""
    now = datetime.now(UTC)
    every_minute = replace(HOURLY, cron="* * * * *")
    assert await at(catalog, now, every_minute) is None
    await catalog.forget_schedules(INDEX, ["nightly"])
    assert await at(catalog, now + timedelta(minutes=1), every_minute) is not None
