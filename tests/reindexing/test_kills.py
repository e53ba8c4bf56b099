"""Whatever is killed, the generation is the one of an undisturbed run, and little is made twice."""

import asyncio

import pytest

from visualindex.catalog import ChunkCommit
from visualindex.errors import ProblemError, ProblemType
from visualindex_jobs.reindex import carry_out

from .collection import LEASE_S, NAME, Collection
from .killing import Killing, after_chunks, some_decoder, while_building
from .paused import Paused

PATCHED = {"rerank": {"mode": "always"}}


@pytest.mark.timeout(600)
async def test_three_kills_change_nothing_in_the_generation(things: Collection) -> None:
    await things.put(*range(150))
    await things.put(150, data=b"no picture at all")
    await things.forget()
    killing = Killing(things, **PATCHED)
    undisturbed = await killing.run()
    await things.forget()
    disturbed = await killing.run(
        after_chunks(things, 1),
        some_decoder(things, 2),
        after_chunks(things, 3),
        while_building(things),
    )
    assert undisturbed.ended is not None
    assert disturbed.ended is not None
    first, second = undisturbed.ended, disturbed.ended
    assert (first["state"], second["state"], disturbed.kills) == ("done", "done", 4)
    assert second["result"]["contents"] == first["result"]["contents"]
    assert second["result"]["encoded"] == first["result"]["encoded"] == 150
    assert (undisturbed.repeated, second["result"]["quarantined"]) == (0, 1)
    assert disturbed.repeated <= 3, "more than one chunk for each killed driver"


async def test_a_driver_that_wakes_late_commits_nothing(things: Collection) -> None:
    """It was paused after its plan; another took over, finished, and the late one finds its fence gone."""
    await things.put(*range(40))
    paused = Paused(things)
    job = await things.claimed()
    late = asyncio.create_task(carry_out(paused.around(), job))
    await paused.reached.wait()
    await things.let_lease_end(job)
    second = await things.catalog.claim_job(NAME, LEASE_S)
    assert second is not None
    assert second.fence.number == job.fence.number + 1
    await carry_out(things.around(), second)
    ended = await things.catalog.get_job(NAME, job.job_id)
    generations = await things.catalog.list_generations(NAME)
    before = await things.vectors()
    paused.go_on.set()
    await late
    assert paused.refused
    assert await things.catalog.get_job(NAME, job.job_id) == ended
    assert await things.catalog.list_generations(NAME) == generations
    assert await things.vectors() == before


async def test_a_chunk_is_committed_once_and_only_by_the_holder(things: Collection) -> None:
    job = await things.claimed()
    chunk = ChunkCommit("0-1", 0, things.fingerprint, None, [], [], {"images": 3})
    assert await things.catalog.commit_chunk(NAME, job.fence, chunk) == []
    assert await things.catalog.commit_chunk(NAME, job.fence, chunk) == []
    assert await things.catalog.chunk_accounts(job.job_id) == [{"images": 3, "refused": 0}]
    await things.let_lease_end(job)
    await things.catalog.claim_job(NAME, LEASE_S)
    with pytest.raises(ProblemError, match="taken over") as refused:
        await things.catalog.commit_chunk(NAME, job.fence, chunk)
    assert refused.value.type is ProblemType.CONFLICT


async def test_a_cancelled_job_stops_and_commits_no_more(things: Collection) -> None:
    await things.put(*range(40))
    paused = Paused(things)
    job = await things.claimed()
    running = asyncio.create_task(carry_out(paused.around(), job))
    await paused.reached.wait()
    await things.catalog.cancel_job(NAME, job.job_id)
    paused.go_on.set()
    await running
    assert paused.refused
    assert await things.vectors() == {}
    assert (await things.catalog.get_job(NAME, job.job_id)).state == "cancelled"
