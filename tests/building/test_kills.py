"""Whatever is killed while shards are built, the generation is the one of an undisturbed build, and nothing else is left."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.reindexing.collection import NAME
from tests.reindexing.conftest import cluster
from tests.reindexing.killing import Killing, Moment

from visualindex.building import retire_abandoned
from visualindex.generations import list_generations

from .filled import Filled, named_in

__all__ = ["cluster"]  # a fixture

INDEX = {"shards": 8, "flatBelow": 50, "family": "hnsw", "hnsw": {"efConstruction": 400}}


def when(holds: Callable[[], bool], victims: Callable[[psutil.Process], list[psutil.Process]]) -> Moment:
    """Kills the victims at the moment when it holds and there are some."""

    async def moment(driver: psutil.Process) -> None:
        while not (holds() and (found := victims(driver))):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.005)
        for one in found:
            one.kill()

    return moment


def held(filled: Filled) -> list[Path]:
    """Manifests of shards that are in the store, or on their way there, and of no generation yet."""
    return list((filled.root / "objects").glob("**/pending/*/*.json"))


async def test_a_build_that_is_killed_between_two_uploads_begins_again_and_its_orphans_are_swept(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled.fill(range(400, 2400))
    killing = Killing(filled, kind="build", index=INDEX, reindex={"builders": 1})
    undisturbed = (await killing.run()).ended
    between = when(lambda: 2 <= len(held(filled)) <= 6, lambda driver: [driver])
    disturbed = await killing.run(between)
    assert undisturbed is not None
    assert disturbed.ended is not None
    assert (disturbed.kills, disturbed.ended["state"]) == (1, "done")
    first = await filled.manifest(undisturbed["result"]["generation"])
    second = await filled.manifest(disturbed.ended["result"]["generation"])
    assert second.contents == first.contents
    assert len(held(filled)) >= 2, "what the killed process held"
    monkeypatch.setattr("visualindex.generations.retiring._ABANDONED", timedelta(0))
    await filled.sweep(first.generation)
    assert await filled.parts() == named_in(second)
    assert held(filled) == []


async def test_what_a_build_published_that_was_killed_before_it_proposed_it_is_retired_after_a_day(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing = Killing(filled, kind="build", index=INDEX, reindex={"builders": 1})

    async def published(driver: psutil.Process) -> None:
        async with no_proposals(filled.dsn):
            await when(lambda: bool(manifests(filled)), lambda driver: [driver])(driver)

    told = await killing.run(published)
    assert told.ended is not None
    assert (told.kills, told.ended["state"]) == (1, "done")
    built = told.ended["result"]["generation"]
    [abandoned] = set(await list_generations(filled.store, NAME)) - {built}
    assert await retire_abandoned(filled.catalog, filled.store, NAME) == [], "its build may go on"
    monkeypatch.setattr("visualindex.generations.retiring._ABANDONED", timedelta(0))
    assert await retire_abandoned(filled.catalog, filled.store, NAME) == [abandoned]
    assert await list_generations(filled.store, NAME) == [built]
    assert await filled.parts() == named_in(await filled.manifest(built))


@asynccontextmanager
async def no_proposals(dsn: str) -> AsyncIterator[None]:
    """Whoever proposes a generation waits."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
        yield


def manifests(filled: Filled) -> list[Path]:
    """Manifests of published generations."""
    return list((filled.root / "objects").glob("**/manifests/*/*.json"))


@pytest.mark.stack
@pytest.mark.timeout(900)
async def test_a_worker_of_ray_that_is_killed_loses_and_doubles_nothing(
    cluster: dict[str, str], filled: Filled
) -> None:
    await filled.fill(range(400, 2400))
    alone = (await Killing(filled, kind="build", index=INDEX).run()).ended
    reindex = {"builders": 2, "cpus": 0.5}
    killing = Killing(filled, cluster, "build", index=INDEX, reindex=reindex)
    some = when(lambda: len(held(filled)) >= 1, lambda _: builders()[:1])
    told = await killing.run(some)
    assert alone is not None
    assert told.ended is not None
    assert (told.ended["state"], told.ended["problem"], told.kills) == ("done", None, 1)
    assert told.ended["result"]["images"] == 2400
    first = await filled.manifest(alone["result"]["generation"])
    second = await filled.manifest(told.ended["result"]["generation"])
    assert second.contents == first.contents
    scratch = filled.cache_dir / "building" / "shards"
    assert len(list(scratch.glob("writer-*"))) <= 1, (
        "a folder of the killed process, for the next one to remove"
    )


def builders() -> list[psutil.Process]:
    """Processes of Ray below this one that build shards."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if "ray::build shard" in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found
