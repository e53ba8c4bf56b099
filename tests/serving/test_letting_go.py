"""What a replica lets go of is given back at once: nothing waits for a collector that runs seldom in a settled process."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from visualindex.catalog import EmbeddedPostgres
from visualindex_serving import shard as replicas

from .generated import NAME, found, generated, image_id

INDEX = {"shards": 1, "flatBelow": 16, "keepGenerations": 1, "fold": "never", "liveRecallSample": 0}


@pytest.fixture
def without_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gc.collect()
    gc.disable()
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    yield
    gc.enable()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("without_collector")
async def test_a_generation_that_is_let_go_of_refers_to_itself_nowhere(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_LINGER_S", 0.0)
    monkeypatch.setattr(replicas, "_LOOK_S", 0.05)
    async with generated(postgres, tmp_path, **INDEX) as things:
        await things.put(range(60))
        first = await things.activated()
        async with things.replica() as replica:
            await things.put(range(60, 100))  # more than are scanned: a graph is built over them
            assert await found(replica, 70) == [image_id(70)]
            view = replica._views[first]
            held = [weakref.ref(one) for one in (view, view.index, view.index._state.bases[0].segment)]
            del view
            second = await things.activated()
            await until(lambda: second in replica._views)
            assert all(one() is not None for one in held)
            await things.catalog.retire_generations(NAME, 1)
            await until(lambda: first not in replica._views and all(one() is None for one in held))
