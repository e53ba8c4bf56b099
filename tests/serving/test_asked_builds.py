"""What people asked for holds: a rollback until they go on, and that a build be served, whoever began it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from visualindex.catalog import BUILD, Catalog, EmbeddedPostgres
from visualindex.generations import NodeCache
from visualindex_jobs.build import carry_out
from visualindex_serving.activation import activate, roll_back
from visualindex_serving.folding import fold_if_due

from .generated import NAME, Generated, generated


class RolledBack:
    """An index whose second generation was left for its first one, which lacks 40 of 100 rows."""

    def __init__(self, things: Generated, first: str, second: str) -> None:
        self.things = things
        self.catalog: Catalog = things.catalog
        self.first = first
        self.second = second

    async def loaded(self, *generations: str) -> None:
        """The one replica tells what it has, and that much of it is fresh."""
        beat: dict[str, Any] = {"shards": 1, "generations": generations, "fresh_rows": 40}
        await self.catalog.heartbeat(NAME, 0, "r", await self.things.position(), 100, 60, **beat)

    async def folded(self) -> list[str]:
        """Kinds of the jobs that are open after a round of maintenance."""
        await fold_if_due(self.catalog, self.things.resource)
        return [job.kind for job in await self.catalog.list_jobs(NAME) if job.state == "queued"]

    async def roll_back(self) -> None:
        await self.loaded(self.first, self.second)
        assert (await roll_back(self.catalog, NAME, 1, 5)).generation == self.first

    async def claimed(self, **parameters: Any) -> Any:
        await self.catalog.request_job(NAME, BUILD, parameters)
        return await self.catalog.claim_job(NAME, 60)

    async def ended(self, job: Any) -> Any:
        """The result of a build that is carried out to its end."""
        things = self.things
        place = things.root / "scratch", NodeCache(things.root / "generations", 1 << 30)
        await carry_out(self.catalog, things.store, things.resource, job, *place)
        ended = await self.catalog.get_job(NAME, job.job_id)
        assert ended.state == "done", ended.problem
        return ended.result

    async def states(self) -> dict[str, str]:
        return {one.generation: one.state for one in await self.catalog.list_generations(NAME)}


@pytest_asyncio.fixture
async def index(postgres: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[RolledBack]:
    async with generated(postgres, tmp_path, shards=1, flatBelow=10) as things:
        await things.put(range(60))
        first = await things.activated()
        await things.put(range(60, 100))
        yield RolledBack(things, first, await things.activated())


async def test_nothing_is_folded_by_itself_while_a_rollback_stands(index: RolledBack) -> None:
    await index.roll_back()
    assert await index.folded() == []
    await index.catalog.discard_generation(NAME, index.second)
    assert await index.folded() == [], "what is built now would be the one that was left"


async def test_folding_goes_on_when_people_activate_the_later_one_again(index: RolledBack) -> None:
    await index.roll_back()
    assert (await activate(index.catalog, NAME, index.second, 1, 5)).state == "active"
    assert await index.folded() == [BUILD]


async def test_a_rollback_that_shards_could_not_follow_does_not_stand(index: RolledBack) -> None:
    await index.loaded(index.second)
    assert (await roll_back(index.catalog, NAME, 1, 0)).state == "preparing"
    assert await index.folded() == []
    await index.catalog.fail_generation(NAME, index.first, "its file is gone")
    assert await index.folded() == [BUILD]


async def test_a_build_that_was_asked_for_before_a_rollback_is_kept_and_not_activated(
    index: RolledBack,
) -> None:
    job = await index.claimed(activate=True)
    await index.things.put(range(100, 110))
    await index.roll_back()
    result = await index.ended(job)
    assert result["activating"] is False
    assert result["kept_back"].startswith("the index was rolled back")
    assert await index.states() == {
        result["generation"]: "ready",
        index.second: "kept",
        index.first: "active",
    }


async def test_a_build_takes_no_rollback_back_that_shards_still_load(index: RolledBack) -> None:
    job = await index.claimed(activate=True)
    await index.things.put(range(100, 110))
    await index.loaded(index.second)
    assert (await roll_back(index.catalog, NAME, 1, 0)).state == "preparing"
    result = await index.ended(job)
    states = await index.states()
    assert (states[index.first], states[result["generation"]]) == ("preparing", "ready")


async def test_a_build_with_activation_that_is_asked_for_after_a_rollback_ends_it(index: RolledBack) -> None:
    await index.roll_back()
    await index.things.put(range(100, 110))
    result = await index.ended(await index.claimed(activate=True))
    assert result["activating"] is True
    await index.catalog.activate_generation(NAME, result["generation"])
    assert await index.folded() == [BUILD]


async def test_who_asks_for_activation_joins_the_build_that_is_under_way(index: RolledBack) -> None:
    job = await index.claimed(activate=False)
    await index.things.put(range(100, 110))
    joined, made = await index.catalog.request_job(NAME, BUILD, {"activate": True})
    assert (joined.job_id, made) == (job.job_id, False)
    assert (await index.ended(job))["activating"] is True


async def test_who_asks_after_a_rollback_for_a_build_of_before_it_has_it_served(index: RolledBack) -> None:
    job = await index.claimed(activate=True)
    await index.things.put(range(100, 110))
    await index.roll_back()
    await index.catalog.request_job(NAME, BUILD, {"activate": True})
    assert (await index.ended(job))["activating"] is True


async def test_folding_has_no_build_served_that_people_want_to_see_first(index: RolledBack) -> None:
    job = await index.claimed(activate=False)
    await index.things.put(range(100, 110))
    await index.loaded(index.second)
    assert await index.folded() == []
    assert (await index.ended(job))["activating"] is False
