"""What a gateway does about jobs: it claims what is due, and none keeps the others waiting."""

import asyncio
import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from visualindex.api.ingesting import SourceResult
from visualindex.catalog import BUILD, INGEST, REINDEX, Catalog, EmbeddedPostgres, JobRecord, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.entries import Refusal
from visualindex.ingesting.ledger import Ledger, Noted
from visualindex.objectstore import LocalObjectStore
from visualindex_serving.background_jobs import BackgroundJobs
from visualindex_serving.holding_jobs import while_held
from visualindex_serving.index_service import IndexService
from visualindex_serving.maintenance import forget_old_jobs

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

        index: Any = SimpleNamespace(name="things", encoders=SimpleNamespace(outdated=False))
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


async def test_jobs_that_do_not_end_when_they_are_cancelled_keep_no_other_waiting(
    postgres: EmbeddedPostgres,
) -> None:
    """As many as run at a time are stuck; each is given up, and one that is asked for then is carried out."""
    begun, killed = asyncio.Queue[UUID](), asyncio.Queue[UUID]()
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)

        async def run(_: IndexService, job: JobRecord) -> None:
            begun.put_nowait(job.job_id)
            if job.index == "last":
                return
            try:
                await asyncio.Event().wait()
            finally:
                killed.put_nowait(job.job_id)

        names = ["one", "two", "three", "last"]
        indexes: list[Any] = [
            SimpleNamespace(name=name, encoders=SimpleNamespace(outdated=False)) for name in names
        ]
        jobs = BackgroundJobs(catalog, indexes, run, patience_s=0.1)
        stuck = [(await catalog.request_job(name, REINDEX, {}))[0].job_id for name in names[:3]]
        jobs.start()
        async with asyncio.timeout(20):
            assert {await begun.get() for _ in stuck} == set(stuck)
            last, _ = await catalog.request_job("last", REINDEX, {})
            await catalog.cancel_job("one", stuck[0])
            assert await killed.get() == stuck[0]
            assert await begun.get() == last.job_id
        states = [(await catalog.get_job(name, job)).state for name, job in zip(names, stuck, strict=False)]
        assert states == ["cancelled", "running", "running"]
        assert killed.empty()
        await jobs.close()
        await catalog.close()


async def test_a_job_that_ends_in_time_is_not_killed(postgres: EmbeddedPostgres) -> None:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        await catalog.request_job("things", BUILD, {})
        job = await catalog.claim_job("things", 30)
        assert job is not None
        noted, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await catalog.end_job(job.fence, result={})
            noted.set()
            await ended.wait()

        running = asyncio.create_task(while_held(catalog, job, work(), 60))
        await noted.wait()
        ended.set()
        await running  # cancelled, it would raise
        await catalog.close()


@pytest.mark.stack
def test_the_process_of_a_job_that_hangs_is_killed() -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.hanging_job"],
        env={**os.environ, **token},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["killed"]), done.stderr


async def test_what_jobs_left_in_the_store_goes_with_them(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Ledgers and lists of refused entries: those of jobs that ended long ago, and of no other."""
    store = LocalObjectStore(tmp_path)
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn, max_connections=1)
        old = await _cancelled_batch(catalog, store)
        await _execute(dsn, "UPDATE jobs SET ended_at = now() - interval '91 days'")
        recent = await _cancelled_batch(catalog, store)
        await forget_old_jobs(catalog, store, "things")
        assert [job.job_id for job in await catalog.list_jobs("things")] == [recent]
        left = [key async for key in store.list("")]
        await catalog.close()
    assert {key.split("/")[2] for key in left} == {str(recent)} != {str(old)}
    assert {key.split("/")[3] for key in left} == {"ledger", "refused"}
    await store.close()


async def _cancelled_batch(catalog: Catalog, store: LocalObjectStore) -> UUID:
    job, _ = await catalog.request_job("things", INGEST, {})
    noted = Noted(0, "a.jpg", False, SourceResult(location="/pictures"))
    refusal = Refusal("a.jpg", "a.jpg", ProblemError(ProblemType.INVALID_IMAGE, "no picture"))
    await Ledger(store, "things", job.job_id).note(0, noted, [refusal])
    await catalog.cancel_job("things", job.job_id)
    return job.job_id


async def _execute(dsn: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement.encode())
