"""What a gateway does about jobs: it claims what is due, and none keeps the others waiting."""

import asyncio
from types import SimpleNamespace
from typing import Any

from visualindex.catalog import BUILD, REINDEX, Catalog, EmbeddedPostgres, JobRecord, migrate
from visualindex_serving.background_jobs import BackgroundJobs
from visualindex_serving.index_service import IndexService

from .pictures import fresh_database


async def test_a_job_of_days_keeps_no_other_kind_waiting(postgres: EmbeddedPostgres) -> None:
    ended = asyncio.Event()
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)

        async def run(_: IndexService, job: JobRecord) -> None:
            if job.kind == REINDEX:
                await asyncio.Event().wait()
            await catalog.end_job(job.fence, result={})
            ended.set()

        index: Any = SimpleNamespace(name="things")
        await catalog.request_job("things", REINDEX, {})
        await catalog.request_job("things", BUILD, {})
        jobs = BackgroundJobs(catalog, [index], run)
        jobs.start()
        async with asyncio.timeout(20):
            await ended.wait()
        states = {job.kind: job.state for job in await catalog.list_jobs("things")}
        assert states == {REINDEX: "running", BUILD: "done"}
        await jobs.close()
        await catalog.close()
