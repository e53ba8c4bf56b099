"""What takes a replica long leaves its event loop to searches and health checks."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from visualindex.building import build_generation
from visualindex.catalog import EmbeddedPostgres
from visualindex.objectstore import LocalObjectStore
from visualindex_serving import shard as replicas
from visualindex_serving.activation import activate, roll_back
from visualindex_serving.shard import ShardReplica

from .generated import NAME, Generated, found, generated, image_id


class SlowStore(LocalObjectStore):
    """A store that never has done with the objects whose keys contain `slow`."""

    slow = "-"
    asked = 0

    async def get(self, key: str) -> bytes:
        if self.slow in key:
            self.asked += 1
            await asyncio.Event().wait()
        return await super().get(key)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.02)


async def another(things: Generated, first: int) -> str:
    """A generation of what is there and ten further images, built."""
    await things.put(range(first, first + 10))
    built = await build_generation(things.catalog, things.store, things.resource, things.root / "scratch")
    return built.generation


async def loading_for_ever(things: Generated, replica: ShardReplica, first: int) -> str:
    """A generation that the replica is loading, and does not come to the end of."""
    assert isinstance(things.store, SlowStore)
    slow, asked = await another(things, first), things.store.asked
    things.store.slow = slow
    await things.catalog.prepare_generation(NAME, slow)
    await until(lambda: things.store.asked > asked)
    return slow


def extending(index: object) -> threading.Event:
    """Let the index be at work on its graph until the event is set, or for ten seconds."""
    done = threading.Event()
    worker = threading.Thread(target=done.wait, args=(10,), daemon=True)
    worker.start()
    index._worker = worker  # type: ignore[attr-defined]
    return done


async def test_searches_go_on_while_a_generation_that_is_let_go_of_ends_its_work(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        first = await things.activated()
        async with things.replica() as replica:
            await things.put(range(20, 30))
            second = await things.activated()
            await until(lambda: second in replica.generations)
            working = extending(replica._views[first].index)
            closing = asyncio.create_task(replica._views[first].close())
            assert await found(replica, 7) == [image_id(7)]
            assert not closing.done()
            working.set()
            await closing


async def test_searches_go_on_while_a_generation_that_was_loaded_again_ends_its_work(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        generation = await things.activated()
        async with things.replica() as replica:
            view = replica._views[generation]
            replaced = view.index
            working = extending(replaced)
            reloading = asyncio.create_task(view._reload())
            await until(lambda: view.index is not replaced)
            assert await found(replica, 7) == [image_id(7)]
            assert not reloading.done()
            working.set()
            await reloading


async def test_a_rollback_and_another_activation_do_not_wait_for_a_generation_that_is_slow_to_load(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_LOOK_S", 0.02)
    monkeypatch.setattr(replicas, "_HEARTBEAT_S", 0.1)
    async with generated(postgres, tmp_path, shards=1) as things:
        things.store = SlowStore(tmp_path / "objects")
        await things.put(range(20))
        first = await things.activated()
        async with things.replica() as replica:
            second = await another(things, 20)
            assert (await activate(things.catalog, NAME, second, 1, 20)).state == "active"
            await loading_for_ever(things, replica, 30)
            assert (await roll_back(things.catalog, NAME, 1, 20)).generation == first
            await until(lambda: replica.generations[0] == first)

            await loading_for_ever(things, replica, 40)
            other = await another(things, 50)
            assert (await activate(things.catalog, NAME, other, 1, 20)).state == "active"
            assert await found(replica, 55) == [image_id(55)]


async def test_what_stopped_following_is_told_while_another_generation_is_slow_to_load(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_LOOK_S", 0.02)
    async with generated(postgres, tmp_path, shards=1) as things:
        things.store = SlowStore(tmp_path / "objects")
        await things.put(range(20))
        first = await things.activated()
        async with things.replica() as replica:
            await loading_for_ever(things, replica, 20)
            assert replica._views[first]._task is not None
            replica._views[first]._follower._position = None  # it stumbles at its next poll
            await until(lambda: first in (replica._told or ""))


async def test_a_replica_closes_while_it_loads(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    async with generated(postgres, tmp_path, shards=1) as things:
        things.store = SlowStore(tmp_path / "objects")
        await things.put(range(20))
        await things.activated()
        async with asyncio.timeout(30), things.replica() as replica:
            await loading_for_ever(things, replica, 20)
