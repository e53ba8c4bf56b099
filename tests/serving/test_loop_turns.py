"""What takes a replica long leaves its event loop to searches and health checks."""

import asyncio
import threading
from pathlib import Path

from visualindex.catalog import EmbeddedPostgres

from .generated import found, generated, image_id


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
            async with asyncio.timeout(20):
                while second not in replica.generations:  # noqa: ASYNC110 - it polls
                    await asyncio.sleep(0.02)
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
            async with asyncio.timeout(20):
                while view.index is replaced:  # noqa: ASYNC110 - it polls
                    await asyncio.sleep(0.01)
            assert await found(replica, 7) == [image_id(7)]
            assert not reloading.done()
            working.set()
            await reloading
