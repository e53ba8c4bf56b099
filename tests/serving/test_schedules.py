"""Schedules of the spec ask for jobs by the clock, and tell when they are due next."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from visualindex.catalog import Catalog
from visualindex.spec import VisualIndex
from visualindex_serving.schedules import ask_what_is_due, schedule_views

from .conftest import Served, put, spec_document
from .test_generations import finished

NIGHTLY = {"name": "nightly", "cron": "0 3 * * *", "timeZone": "Europe/Berlin", "kind": "check"}
HOURLY = {"name": "hourly", "cron": "0 * * * *", "kind": "refresh"}
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def scheduled(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document(reindex={"schedules": [NIGHTLY, HOURLY]})) as served:
        yield served


async def test_a_schedule_whose_time_has_come_ends_in_a_generation_or_a_report(scheduled: Served) -> None:
    await put(scheduled, 0)
    resource = VisualIndex.model_validate(spec_document(reindex={"schedules": [NIGHTLY, HOURLY]}))
    catalog = await Catalog.open(scheduled.dsn, max_connections=1)
    try:
        await ask_what_is_due(catalog, resource)
        assert await catalog.list_jobs("things") == []
        tomorrow = NOW + timedelta(days=1, hours=1)
        await ask_what_is_due(catalog, resource, tomorrow)
        await ask_what_is_due(catalog, resource, tomorrow)
        jobs = {job.kind: job for job in await catalog.list_jobs("things")}
        assert len(jobs) == 2
        assert (jobs["check"].parameters["reason"], jobs["check"].parameters["repair"]) == (
            "schedule nightly",
            True,
        )
        assert (jobs["build"].parameters["reason"], jobs["build"].parameters["activate"]) == (
            "schedule hourly",
            True,
        )
        for job in jobs.values():
            ended = await finished(scheduled, {"job_id": job.job_id, "state": "queued"})
            assert (ended["state"], ended["problem"]) == ("done", None)
        views = await schedule_views(catalog, resource, tomorrow)
        assert [view.next_at is not None and view.next_at > tomorrow for view in views] == [True, True]
    finally:
        await catalog.close()
    told = (await scheduled.client.get("/api/indexes/things/schedules")).json()
    assert [(one["name"], one["kind"], len(one["runs"])) for one in told] == [
        ("nightly", "check", 1),
        ("hourly", "refresh", 1),
    ]
    (run,) = told[1]["runs"]
    assert (run["outcome"], run["job_id"]) == ("requested", str(jobs["build"].job_id))
    assert (run["became"], run["problem"]) == ("done", None)
    assert run["missed"] >= 23


async def test_an_index_without_schedules_has_none(served: Served) -> None:
    assert (await served.client.get("/api/indexes/things/schedules")).json() == []
