"""A batch that is paused, cancelled or killed goes on where it was, and repeats no more than it had in hand."""

import asyncio
import json
import os
import random
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from visualindex.catalog import INGEST, LEASE_S, Catalog, EmbeddedPostgres, Fence, Origin, migrate
from visualindex.encoders.loading import fingerprint_of
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec import VisualIndex

from .conftest import Served
from .pictures import fresh_database, picture
from .test_batch_ingest import allowing
from .test_generations import finished

PICTURES = 40
CHUNK = 3
KILLS = 2  # a job is begun three times
PROCESS = Path(__file__).with_name("ingest_process.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    for seed in range(PICTURES):
        (folder / f"{seed:03}.jpg").write_bytes(picture(seed))
    return folder


async def reached(catalog: Catalog, count: int) -> None:
    """Returns once the index has so many images."""
    async with asyncio.timeout(120):
        while True:
            if await catalog.count_images("things") >= count:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Catalog]:
    catalog = await Catalog.open(dsn, max_connections=2)
    try:
        yield catalog
    finally:
        await catalog.close()


async def test_a_killed_batch_goes_on_and_repeats_at_most_what_it_had_in_hand(
    postgres: EmbeddedPostgres, folder: Path, tmp_path: Path, cache_dir: Path
) -> None:
    document = allowing(folder)
    resource = VisualIndex.model_validate(document)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "cache").symlink_to(cache_dir)
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with opened(dsn) as catalog:
            fingerprint = await asyncio.to_thread(fingerprint_of, resource.spec.encoder, cache_dir)
            await catalog.ensure_index("things", fingerprint, resource.spec.encoder.dimension)
            sources = [{"location": str(folder)}]
            asked, _ = await catalog.request_job("things", INGEST, {"sources": sources, "chunk": CHUNK})
            chosen = random.Random(os.getpid())
            for kill in range(KILLS):
                process = await start(document, dsn, tmp_path / "state")
                await reached(catalog, kill * PICTURES // 3 + chosen.randint(1, PICTURES // 3))
                process.kill()
                await process.wait()
                lapse(dsn)
            process = await start(document, dsn, tmp_path / "state")
            assert await process.wait() == 0
            job = await catalog.get_job("things", asked.job_id)
            assert (job.state, job.problem, job.attempts) == ("done", None, KILLS + 1)
            assert await catalog.count_images("things") == PICTURES
            assert job.result is not None
            assert job.result["read"] == PICTURES
            assert job.result["created"] + job.result["unchanged"] == PICTURES
            assert job.result["unchanged"] <= KILLS * CHUNK


async def test_a_batch_that_is_killed_before_its_end_is_noted_reads_nothing_again(
    postgres: EmbeddedPostgres, folder: Path, tmp_path: Path, cache_dir: Path
) -> None:
    document = allowing(folder)
    resource = VisualIndex.model_validate(document)
    state = tmp_path / "state"
    state.mkdir()
    (state / "cache").symlink_to(cache_dir)
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with opened(dsn) as catalog:
            fingerprint = await asyncio.to_thread(fingerprint_of, resource.spec.encoder, cache_dir)
            await catalog.ensure_index("things", fingerprint, resource.spec.encoder.dimension)
            asked, _ = await catalog.request_job("things", INGEST, {"sources": [{"location": str(folder)}]})
            async with ends_held(dsn) as waits:
                process = await start(document, dsn, state)
                await waits()
                process.kill()
                await process.wait()
            lapse(dsn)
            process = await start(document, dsn, state)
            assert await process.wait() == 0
            job = await catalog.get_job("things", asked.job_id)
            assert (job.state, job.problem, job.attempts) == ("done", None, 2)
            assert job.result is not None
            assert (job.result["read"], job.result["created"]) == (PICTURES, PICTURES)
            assert not [left for left in (state / "objects").rglob("ledger/**/*") if left.is_file()]


@asynccontextmanager
async def ends_held(dsn: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Nobody can note the end of a job; the function that this gives returns once somebody wants to."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.execute(
            """CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'"""
        )
        await connection.execute(
            "CREATE TRIGGER held BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.state = 'done') EXECUTE FUNCTION held()"
        )

        async def waits() -> None:
            blocked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"
            async with asyncio.timeout(120):
                while not await (await connection.execute(blocked)).fetchone():  # noqa: ASYNC110 - no event of Postgres'
                    await asyncio.sleep(0.02)

        yield waits
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 7 AND NOT granted"
        await connection.execute(ended)
        await connection.execute("DROP FUNCTION held CASCADE")


async def start(document: dict[str, Any], dsn: str, state: Path) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "VISUALINDEX_POSTGRES_DSN": dsn,
        "VISUALINDEX_STATE_DIR": str(state),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, str(PROCESS), json.dumps(document), env=environment
    )


def lapse(dsn: str) -> None:
    """The lease of a process that is gone ends at once, as it would by itself half a minute later."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'")


async def change(served: Served, job: dict[str, Any], what: str) -> dict[str, Any]:
    answer = await served.client.post(f"/api/indexes/things/jobs/{job['job_id']}/{what}")
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def running(served: Served, folder: Path) -> dict[str, Any]:
    """A batch that has written a few images."""
    job = await served.client.post(
        "/internal/index", json={"sources": [{"location": str(folder)}], "chunk": CHUNK}
    )
    async with opened(served.dsn) as catalog:
        await reached(catalog, 1)
    begun: dict[str, Any] = job.json()
    return begun


async def test_a_paused_batch_writes_nothing_more_until_it_goes_on(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served, opened(served.dsn) as catalog:
        job = await running(served, folder)
        assert (await change(served, job, "pause"))["state"] == "paused"
        written = await catalog.count_images("things")
        assert 0 < written < PICTURES
        again = await served.client.post(f"/api/indexes/things/jobs/{job['job_id']}/pause")
        assert again.status_code == 409
        assert await catalog.count_images("things") == written
        assert (await change(served, job, "resume"))["state"] == "queued"
        ended = await finished(served, job, within_s=120)
        assert (ended["state"], ended["result"]["read"]) == ("done", PICTURES)
        assert ended["result"]["unchanged"] <= CHUNK
        assert await catalog.count_images("things") == PICTURES


async def test_a_paused_batch_holds_nobody_up_and_waits_for_its_turn(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        paused = await running(served, folder)
        await change(served, paused, "pause")
        other = await running(served, folder)
        assert other["job_id"] != paused["job_id"]
        refused = await served.client.post(f"/api/indexes/things/jobs/{paused['job_id']}/resume")
        assert refused.status_code == 409
        await finished(served, other, within_s=120)
        await change(served, paused, "resume")
        assert (await finished(served, paused, within_s=120))["state"] == "done"


async def test_a_cancelled_batch_keeps_what_it_wrote_and_cannot_go_on(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served, opened(served.dsn) as catalog:
        job = await running(served, folder)
        assert (await change(served, job, "cancel"))["state"] == "cancelled"
        written = await catalog.count_images("things")
        assert (
            await served.client.post(f"/api/indexes/things/jobs/{job['job_id']}/resume")
        ).status_code == 409
        assert await catalog.count_images("things") == written


async def test_the_same_batch_asked_for_twice_is_one_and_another_is_refused(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        job = await running(served, folder)
        same = {"sources": [{"location": str(folder)}], "chunk": CHUNK}
        assert (await served.client.post("/internal/index", json=same)).json()["job_id"] == job["job_id"]
        other = await served.client.post(
            "/internal/index", json={"sources": [{"location": f"{folder}/000.jpg"}]}
        )
        assert other.status_code == 409
        assert job["job_id"] in other.json()["detail"]
        await finished(served, job, within_s=120)


async def test_who_lost_a_batch_writes_nothing(postgres: EmbeddedPostgres) -> None:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with opened(dsn) as catalog:
            await catalog.ensure_index("things", "f" * 16, 8)
            await catalog.request_job("things", INGEST, {})
            job = await catalog.claim_job("things", LEASE_S)
            assert job is not None
            late = Fence(job.job_id, job.fence.number - 1)
            origin = Origin("file:///x", "a.jpg", uuid.uuid4(), bytes(32), "e")
            for work in (
                catalog.note_origins("things", [origin], late),
                catalog.remove_origin("things", "file:///x", "a.jpg", late),
                catalog.put_images("things", [], fence=late),
            ):
                with pytest.raises(ProblemError) as refused:
                    await work
                assert refused.value.type is ProblemType.CONFLICT


async def test_a_failed_batch_can_go_on(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served, opened(served.dsn) as catalog:
        job = await running(served, folder)
        with psycopg.connect(served.dsn, autocommit=True) as connection:
            connection.execute("UPDATE jobs SET state = 'failed', problem = 'x', ended_at = now()")
        await change(served, job, "resume")
        ended = await finished(served, job, within_s=120)
        assert (ended["state"], ended["problem"]) == ("done", None)
        assert await catalog.count_images("things") == PICTURES
