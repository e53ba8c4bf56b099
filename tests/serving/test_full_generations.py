"""A generation that cannot take in all that was written since it was built is not made the active one behind one's back."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from visualindex.catalog import Catalog, EmbeddedPostgres, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import shard as replicas
from visualindex_serving.activation import activate, roll_back
from visualindex_serving.fanout import Fanout, Merged
from visualindex_serving.messages import ShardQuery

from . import test_engine_story_machine as machine
from .pictures import fresh_database
from .test_engine_story_machine import DIMENSION, FINGERPRINT, NAME, POOL, World


@pytest_asyncio.fixture
async def world(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """One shard of 2 MiB, whose first generation is kept and full, and whose second one has room."""
    monkeypatch.setattr(replicas, "_LOOK_S", 0.02)
    small = partial(machine.resource, family="hnsw", memoryPerShard="2Mi")
    monkeypatch.setattr(machine, "resource", small)
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        await catalog.ensure_index(NAME, FINGERPRINT, DIMENSION)
        opened = World(dsn, tmp_path, catalog)
        await opened.start(1)
        chance = random.Random(1)
        for numbers in (range(1000), range(1000, 2500)):
            await opened.put(list(numbers), chance)
            await opened.activate(await opened.build(1))
        await opened.put(list(range(2500, 3400)), chance)
        yield opened
        await opened.close()


async def found(world: World, generation: str = "") -> Merged:
    query = ShardQuery(POOL[0][None], 5, None, (), np.inf, strong=True, wait_s=30, generation=generation)
    return await Fanout([one.replica.search for one in world.serving]).search(query)


async def told(world: World) -> str:
    return "".join(one.problem or "" for one in await world.catalog.replica_loads(NAME))


async def test_a_rollback_that_would_hide_images_is_refused_with_the_bytes_unless_it_is_forced(
    world: World,
) -> None:
    active, kept = (one.generation for one in await world.catalog.loaded_generations(NAME))
    assert (await found(world, active)).complete
    hidden = await found(world, kept)
    assert (hidden.complete, hidden.full, hidden.missing) == (False, [0], [])
    # What was served before the first generation lingers, and is soon full as well.
    while f"{kept}: it would find fewer images" not in await told(world):  # noqa: ASYNC110 - it polls
        await asyncio.sleep(0.02)
    with pytest.raises(ProblemError, match=r"fewer images .* bytes are needed; raise spec") as caught:
        await roll_back(world.catalog, NAME, 1, 30)
    assert caught.value.type is ProblemType.CONFLICT
    assert (await world.states())[active] == "active"
    assert (await activate(world.catalog, NAME, kept, 1, 30, force=True)).state == "active"
    assert not (await found(world, kept)).complete
