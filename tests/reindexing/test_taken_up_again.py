"""A job that is taken up again when things are not what they were: another encoder in the spec, its ledger gone."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from visualindex.encoders import fingerprint_of
from visualindex.objectstore import job_prefix
from visualindex.reindexing import Ledger, Plan, Recipe
from visualindex_jobs.reindex import carry_out
from visualindex_jobs.reindex_here import Here

from .collection import NAME, Collection, resource_of


class Killed(BaseException):
    """As if the process had ended there."""


class Dying:
    """A conveyor whose process ends after the first chunk was handed over."""

    def __init__(self, inner: Here) -> None:
        self._inner = inner

    async def choose(self) -> Recipe:
        return await self._inner.choose()

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        async with aclosing(self._inner.make(plan, chunks)) as made:
            yield await anext(made)
            raise Killed


class Waiting:
    """A conveyor that never gets a machine."""

    def __init__(self, inner: Here) -> None:
        self._inner = inner
        self.reached = asyncio.Event()

    async def choose(self) -> Recipe:
        return await self._inner.choose()

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        self.reached.set()
        await asyncio.Event().wait()
        yield chunks[0]


async def begun_and_killed(things: Collection, **spec: object) -> None:
    """A job that committed one chunk of its plan and then lost its process."""
    job = await things.claimed()
    around = things.around(**spec)
    ledger = Ledger(things.store, NAME, str(job.job_id))
    async with Here(around.resource, ledger, things.cache_dir, threads=1) as here:
        with pytest.raises(Killed):
            await carry_out(around, job, Dying(here))
    await things.let_lease_end(job)


async def test_a_job_whose_spec_names_another_encoder_now_files_no_vector_under_the_one_before(
    things: Collection,
) -> None:
    await things.put(*range(80))
    await begun_and_killed(things)
    moved = {"encoder": {"dimension": 16}}
    job = await things.claimed()
    await carry_out(things.around(**moved), job)
    ended = await things.catalog.get_job(NAME, job.job_id)
    assert (ended.state, ended.problem) == ("done", None)
    before = await things.vectors()
    assert len(before) == 32  # what was committed before; nobody asks for the rest any more
    assert {len(vector) for vector in before.values()} == {2 * 32}
    things.fingerprint = fingerprint_of(resource_of(**moved).spec.encoder, things.cache_dir)
    after = await things.vectors()
    assert {len(vector) for vector in after.values()} == {2 * 16}
    assert len(after) == 80


async def test_a_paused_job_keeps_its_ledger_while_another_one_rebuilds(things: Collection) -> None:
    await things.put(*range(80))
    await begun_and_killed(things)
    (paused,) = await things.catalog.list_jobs(NAME)
    await things.catalog.pause_job(NAME, paused.job_id)
    await things.reindex()
    prefix = job_prefix(NAME, str(paused.job_id))
    assert [key async for key in things.store.list(prefix)] != []
    await things.catalog.resume_job(NAME, paused.job_id)
    await carry_out(things.around(), await things.claimed())
    ended = await things.catalog.get_job(NAME, paused.job_id)
    assert (ended.state, ended.problem) == ("done", None)


async def test_a_failed_job_whose_ledger_is_gone_plans_anew(things: Collection) -> None:
    await things.put(*range(3))
    await things.put(3, data=b"no picture at all")
    failed = await things.reindex(reindex={"maxQuarantined": 0})
    assert failed.state == "failed"
    await things.reindex()
    await things.put(10, 11)
    await things.catalog.resume_job(NAME, failed.job_id)
    await carry_out(things.around(), await things.claimed())
    ended = await things.catalog.get_job(NAME, failed.job_id)
    assert (ended.state, ended.problem) == ("done", None)
    assert len(await things.vectors()) == 5


async def test_a_job_beyond_its_quarantine_stays_so_when_it_is_resumed(things: Collection) -> None:
    """All of its chunks are in, and there is nothing left to be made: the limit holds all the same."""
    await things.put(*range(5))
    await things.put(5, data=b"no picture at all")
    failed = await things.reindex(reindex={"maxQuarantined": 0})
    assert failed.state == "failed"
    await things.catalog.resume_job(NAME, failed.job_id)
    await carry_out(things.around(reindex={"maxQuarantined": 0}), await things.claimed())
    again = await things.catalog.get_job(NAME, failed.job_id)
    assert again.state == "failed"
    assert "spec.reindex.maxQuarantined (0)" in (again.problem or "")
    assert await things.catalog.list_generations(NAME) == []
    await things.catalog.resume_job(NAME, failed.job_id)
    await carry_out(things.around(reindex={"maxQuarantined": 1}), await things.claimed())
    assert (await things.catalog.get_job(NAME, failed.job_id)).state == "done"


async def test_a_job_that_is_cancelled_while_a_chunk_never_comes_ends_all_the_same(
    things: Collection,
) -> None:
    """As on a cluster whose machines are all gone."""
    await things.put(*range(3))
    job, around = await things.claimed(), things.around()
    ledger = Ledger(things.store, NAME, str(job.job_id))
    async with Here(around.resource, ledger, things.cache_dir, threads=1) as here:
        waiting = Waiting(here)
        carried = asyncio.create_task(carry_out(around, job, waiting))
        await waiting.reached.wait()
        await things.catalog.cancel_job(NAME, job.job_id)
        async with asyncio.timeout(60):
            await carried
    assert (await things.catalog.get_job(NAME, job.job_id)).state == "cancelled"
