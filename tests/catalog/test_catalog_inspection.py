"""What the operator reads of an index: its size and its generations, also while its number of shards changes."""

from typing import Any

from visualindex.catalog import APART, PLACE, REINDEX, Catalog, ChunkCommit
from visualindex.catalog.inspection import inspect
from visualindex.catalog.reindex_inspection import fail_job

from .scene import FINGERPRINT, INDEX, image, number_id


async def beat(catalog: Catalog, shard: int, shards: int, rows: int, replica: str) -> None:
    """A replica of a layout says how many rows it has."""
    follower = catalog.follow(INDEX, FINGERPRINT, range(1024))
    async for _ in follower.load(100):
        pass
    await catalog.heartbeat(INDEX, shard, replica, follower.position, rows, shards=shards)


async def propose(catalog: Catalog, generation: str, **recall: Any) -> None:
    """A generation with what was measured, and more than anybody wants to read."""
    follower = catalog.follow(INDEX, FINGERPRINT, range(1024))
    async for _ in follower.load(100):
        pass
    manifest = {"recall": {**recall, "shards": [{"curve": [1] * 100}]}, "shards": [{"files": []}]}
    await catalog.propose_generation(INDEX, generation, FINGERPRINT, manifest, follower.position)


async def test_images_are_counted_once_while_two_layouts_are_there(catalog: Catalog, dsn: str) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(10)])
    await beat(catalog, 0, 1, 10, "old")
    assert (await inspect(dsn, INDEX)).images == 10
    await beat(catalog, 0, 2, 6, "new-0")
    assert (await inspect(dsn, INDEX)).images == 10
    await beat(catalog, 1, 2, 4, "new-1")
    assert (await inspect(dsn, INDEX)).images == 10


async def test_generations_are_told_with_what_was_measured_alone(catalog: Catalog, dsn: str) -> None:
    first, second = "a" * 16, "b" * 16
    await propose(catalog, first, recall=0.97, target=0.95, met=True)
    await propose(catalog, second, recall=0.9, target=0.95, met=False)
    await catalog.prepare_generation(INDEX, first)
    await catalog.activate_generation(INDEX, first)
    await catalog.prepare_generation(INDEX, second)
    await catalog.fail_generation(INDEX, second, "shard 0: no room")
    found = (await inspect(dsn, INDEX)).generations
    assert [(one.generation, one.state, one.problem) for one in found] == [
        (second, "failed", "shard 0: no room"),
        (first, "active", ""),
    ]
    assert found[1].recall == {"recall": 0.97, "target": 0.95, "met": True}


async def test_an_image_counts_as_indexed_by_the_replicas_of_one_layout(catalog: Catalog) -> None:
    await beat(catalog, 0, 1, 0, "old")
    await catalog.put_images(INDEX, [image(1)])
    await beat(catalog, 0, 2, 1, "new")
    assert await catalog.is_indexed(INDEX, number_id(1), 0, 2)
    assert not await catalog.is_indexed(INDEX, number_id(1), 0, 1)
    assert not await catalog.is_indexed(INDEX, number_id(1), 0)


async def test_the_rebuild_under_way_is_told_and_then_how_it_ended(catalog: Catalog, dsn: str) -> None:
    assert (await inspect(dsn, INDEX)).reindex is None
    job, _ = await catalog.request_job(INDEX, REINDEX, {PLACE: APART})
    waiting = (await inspect(dsn, INDEX)).reindex
    assert waiting is not None
    assert (waiting.job_id, waiting.state, waiting.apart, waiting.held) == (job.job_id, "queued", True, False)
    held = await catalog.claim_job(INDEX, 60, job_id=job.job_id)
    assert held is not None
    await catalog.renew_job(held.fence, "encoding, round 1", 3, 9, 60)
    await catalog.commit_chunk(
        INDEX, held.fence, ChunkCommit("0-1", 0, FINGERPRINT, None, [], [], {"images": 3})
    )
    running = (await inspect(dsn, INDEX)).reindex
    assert running is not None
    assert (running.held, running.phase, running.done, running.total) == (True, "encoding, round 1", 3, 9)
    assert running.chunks == 1
    await catalog.end_job(held.fence, result={"generation": "a" * 16})
    ended = await inspect(dsn, INDEX)
    assert ended.reindex is None
    assert ended.reindexed is not None
    assert (ended.reindexed.state, ended.reindexed.result) == ("done", {"generation": "a" * 16})


async def test_a_job_that_cannot_be_begun_is_failed_unless_somebody_holds_it(
    catalog: Catalog, dsn: str
) -> None:
    job, _ = await catalog.request_job(INDEX, REINDEX, {PLACE: APART})
    held = await catalog.claim_job(INDEX, 60, job_id=job.job_id)
    assert held is not None
    assert not await fail_job(dsn, job.job_id, "no such image")
    await catalog.release_job(held.fence, "its process is to end")
    assert await fail_job(dsn, job.job_id, "no such image")
    assert not await fail_job(dsn, job.job_id, "twice")
    found = await catalog.get_job(INDEX, job.job_id)
    assert (found.state, found.problem) == ("failed", "no such image")
