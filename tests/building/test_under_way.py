"""While a build is under way the log and the parts it needs stay, whoever tidies up; afterwards nothing is left of it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.generations.stores import Observed
from tests.reindexing.collection import NAME, number_id

from visualindex.building import retire_abandoned
from visualindex.catalog import LogTrimmed, Position
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import buckets_of_shard
from visualindex.objectstore import part_prefix

from .filled import Filled, named_in, resource


class Midway:
    """Does something once two of four shards are done, while the next is uploaded."""

    def __init__(self, filled: Filled, work: Any) -> None:
        self.store = Observed(filled.store, before=self._before)
        self._work = work
        self._due = False
        self.happened = False

    def say(self, phase: str, done: int, _total: int) -> None:
        self._due = self._due or (phase, done) == ("building", 2)

    async def _before(self, _operation: str, key: str) -> None:
        if self._due and not self.happened and key.startswith(part_prefix(NAME)):
            self.happened = True
            await self._work()


async def test_the_log_since_the_watermark_stays_until_the_generation_holds_it(filled: Filled) -> None:
    async def write_and_trim() -> None:
        await filled.fill(range(400, 440))
        await filled.catalog.trim_log(NAME, keep_s=0)

    midway = Midway(filled, write_and_trim)
    built = await filled.build(resource(1), store=midway.store, say=midway.say)
    assert midway.happened
    await filled.catalog.trim_log(NAME, keep_s=0)
    record = await filled.catalog.get_generation(NAME, built.generation)
    assert str(record.watermark) == (await filled.manifest(built.generation)).watermark
    assert await changed_since(filled, record.watermark) >= {number_id(n) for n in range(400, 440)}
    assert (await filled.catalog.log_status(NAME)).replica is None, "the build holds the log no more"


async def test_without_a_build_the_log_is_trimmed(filled: Filled) -> None:
    """What the test above would see if nothing held the log."""
    position = await filled.catalog.begin_build(NAME, "build-of-test")
    await filled.catalog.end_build(NAME, "build-of-test")
    await filled.fill(range(400, 440))
    await filled.catalog.trim_log(NAME, keep_s=0)
    with pytest.raises(LogTrimmed):
        await changed_since(filled, position)


async def changed_since(filled: Filled, position: Position) -> set[Any]:
    """Ids of the images that the log has after a position."""
    follower = filled.catalog.follow(NAME, filled.fingerprint, buckets_of_shard(0, 1))
    await follower.resume(position)
    return set((await follower.poll()).upserts.image_ids)


async def test_the_watermark_is_no_later_than_any_shard(filled: Filled) -> None:
    """Images that came while shards were read are in some of them, and all are after the watermark."""

    async def write() -> None:
        await filled.fill(range(400, 440))

    midway = Midway(filled, write)
    built = await filled.build(resource(1), store=midway.store, say=midway.say)
    assert 400 < built.images < 440
    watermark = (await filled.catalog.get_generation(NAME, built.generation)).watermark
    assert await changed_since(filled, watermark) == {number_id(n) for n in range(400, 440)}


@pytest.mark.parametrize("builders", [1, 2])
async def test_a_sweep_takes_nothing_of_a_build_that_is_under_way(filled: Filled, builders: int) -> None:
    old = await filled.build(resource(1))
    await filled.fill(range(400, 410))

    async def sweep() -> None:
        assert len(await filled.pending()) >= 2
        await filled.sweep(old.generation)

    midway = Midway(filled, sweep)
    built = await filled.build(resource(builders), store=midway.store, say=midway.say)
    assert midway.happened
    assert await filled.parts() == named_in(await filled.manifest(built.generation))
    assert await filled.pending() == set()


async def test_a_build_whose_first_shard_comes_while_a_sweep_runs_waits_for_its_end(filled: Filled) -> None:
    """It would find parts in the store that are deleted a moment later."""
    old = await filled.build(resource(1))
    building: list[asyncio.Task[Any]] = []

    async def begin(operation: str, key: str) -> None:
        if operation == "list" and key == part_prefix(NAME):
            building.append(asyncio.create_task(filled.build(resource(1))))
            async with asyncio.timeout(60):
                while not await waits_for_its_turn(filled):
                    assert not building[0].done()
                    await asyncio.sleep(0.01)

    await filled.sweep(old.generation, Observed(filled.store, before=begin))
    built = await building[0]
    assert built.contents == old.contents
    assert await filled.parts() == named_in(await filled.manifest(built.generation))


async def waits_for_its_turn(filled: Filled) -> bool:
    async def work(connection: Any) -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        row = await (await connection.execute(query)).fetchone()
        return bool(row[0])

    return await filled.catalog.connections.read(work)


async def test_a_build_that_was_taken_over_publishes_nothing_more(filled: Filled) -> None:
    job = await filled.claimed()

    async def take_over() -> None:
        await filled.let_lease_end(job)
        assert await filled.catalog.claim_job(NAME, 30) is not None

    midway = Midway(filled, take_over)
    with pytest.raises(ProblemError, match="taken over") as refused:
        await filled.build(resource(1), store=midway.store, say=midway.say, fence=job.fence)
    assert refused.value.type is ProblemType.CONFLICT
    assert await filled.catalog.list_generations(NAME) == []
    assert await filled.pending() == set()
    assert [key async for key in filled.store.list(f"{NAME}/generations/manifests/")] == []


async def test_shards_of_a_build_that_takes_days_are_held_again(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one would be taken for abandoned after a day."""
    monkeypatch.setattr("visualindex.building.holding._RENEW_S", 0.01)
    monkeypatch.setattr("visualindex.building.holding._HOLD_AGAIN_S", 0.0)
    old = await filled.build(resource(1))
    held = list[str]()

    async def again(operation: str, key: str) -> None:
        if operation == "put" and "/pending/" in key:
            held.append(key)

    async def wait() -> None:
        async with asyncio.timeout(60):
            while len(held) - len(set(held)) < 2:  # noqa: ASYNC110 - until each of the two was put again
                await asyncio.sleep(0.01)

    midway = Midway(filled, wait)
    await filled.build(resource(1), store=Observed(midway.store, before=again), say=midway.say)
    assert midway.happened
    await filled.sweep(old.generation)


async def test_a_database_that_knows_no_generation_retires_none(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rather the wrong one, or empty by mistake, than one whose every build was abandoned."""
    monkeypatch.setattr("visualindex.generations.retiring._ABANDONED", timedelta(0))
    built = await filled.build(resource(1))
    await filled.execute("DELETE FROM generations")
    assert await retire_abandoned(filled.catalog, filled.store, NAME) == []
    assert await filled.parts() == named_in(await filled.manifest(built.generation))


async def test_what_a_killed_build_left_goes_with_a_sweep_once_it_is_abandoned(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process lets nothing go: as if the release of what it held had failed."""
    old = await filled.build(resource(1))
    await filled.fill(range(400, 440))

    async def stop() -> None:
        raise ProblemError(ProblemType.UNAVAILABLE, "killed")

    async def stay(*_: object) -> None:
        return

    midway = Midway(filled, stop)
    with monkeypatch.context() as patched:
        patched.setattr("visualindex.building.holding.let_go", stay)
        with pytest.raises(ProblemError, match="killed"):
            await filled.build(resource(1), store=midway.store, say=midway.say)
    before = named_in(await filled.manifest(old.generation))
    orphans = await filled.parts() - before
    assert orphans
    new = await filled.build(resource(1, shards=3))
    await filled.sweep(old.generation)
    assert orphans <= await filled.parts(), "they may belong to a build elsewhere"
    monkeypatch.setattr("visualindex.generations.retiring._ABANDONED", timedelta(0))
    await filled.sweep(old.generation)
    assert await filled.parts() == named_in(await filled.manifest(new.generation))
    assert await filled.pending() == set()
