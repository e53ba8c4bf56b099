"""Loads that the change log does not reach back to: compared with the catalog row by row, within the memory there is."""

import asyncio
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from visualindex.ann import ShardIndex
from visualindex.ann import codes as half
from visualindex.catalog import EmbeddedPostgres
from visualindex.spec import VisualIndex
from visualindex.spec.models import HnswSpec
from visualindex_serving import shard as replicas
from visualindex_serving import shard_view
from visualindex_serving.shard import ShardReplica

from .conftest import spec_document
from .generated import DIMENSION, NAME, Generated, found, generated, image_id, vector, written

IMAGES = 4000


async def execute(things: Generated, query: str, *parameters: Any) -> None:
    async def work(transaction: Any) -> None:
        await transaction.connection.execute(query, parameters)

    await things.catalog.connections.write(work)


async def trim(things: Generated) -> None:
    """The log forgets all that it had."""
    query = """WITH gone AS (DELETE FROM changes RETURNING xid)
        UPDATE indexes SET trimmed_through = greatest(trimmed_through, (SELECT max(xid) FROM gone))"""
    await execute(things, query)


def resource(**index: Any) -> VisualIndex:
    about = {"pollIntervalMs": 10, **index}
    return VisualIndex.model_validate(spec_document(encoder={"dimension": DIMENSION}, index=about))


async def test_of_a_segment_that_shards_share_each_counts_its_part_also_when_it_compares_row_by_row(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path, shards=1) as things:
        await things.put(range(IMAGES))
        record = await things.catalog.get_generation(NAME, await things.activated())
        (segment,) = await things.files().open(record, range(1024))
        nothing = ShardIndex(DIMENSION, flat_below=1, hnsw=HnswSpec(), memory_limit=0)
        limit = nothing.memory_bytes + segment.memory_bytes // 2
        await things.put(range(IMAGES, IMAGES + 100))
        await trim(things)
        opened = ShardReplica(
            resource(shards=4, memoryPerShard=str(limit)), 0, things.catalog, files=things.files()
        )
        await opened.open()
        try:
            view = opened._views[record.generation]
            assert (view.index.fresh > 0, view.full, opened._stand_ins) == (True, False, set())
            assert view.index.memory_bytes < limit
        finally:
            await opened.close()


async def test_what_changed_vanished_and_came_since_is_as_the_catalog_says_also_in_older_versions(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path, shards=1) as things:
        await things.put(range(40))
        await things.activated()
        await things.catalog.put_images(NAME, [written(3, of=90)])
        await things.catalog.delete_image(NAME, image_id(5))
        await things.put(range(40, 45))

        await things.store_as_it_was(7, half.encode(vector(91)[None]).tobytes())
        await execute(things, "UPDATE images SET version = 0 WHERE image_id = %s", image_id(7))
        await trim(things)
        async with things.replica() as replica:
            assert len(replica._any().index) == 44
            assert await found(replica, 90) == [image_id(3)]
            assert image_id(5) not in await found(replica, 5, k=44)
            assert await found(replica, 42) == [image_id(42)]
            assert await found(replica, 91) == [image_id(7)]


async def test_rows_that_do_not_fit_are_not_gathered_first(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty megabytes of metadata against an index of less than one: the shard says that it is full."""
    monkeypatch.setattr(shard_view, "_LOAD_ROWS", 50)
    text = {"text": "".join(chr(0x4E00 + n % 20_000) for n in range(10_000))}
    async with generated(postgres, tmp_path, shards=1, memoryPerShard="400Ki") as things:
        await things.put(range(50))
        generation = await things.activated()
        await things.catalog.delete_image(NAME, image_id(5))
        for first in range(50, 1050, 50):
            writes = [replace(written(n), metadata=text) for n in range(first, first + 50)]
            await things.catalog.put_images(NAME, writes)
        await trim(things)
        tracemalloc.start()
        try:
            async with things.replica() as replica:
                _, peak = tracemalloc.get_traced_memory()
                assert replica.full
                assert 49 <= len(replica._views[generation].index) < 700
                assert image_id(5) not in await found(replica, 5, k=49)
        finally:
            tracemalloc.stop()
        assert peak < 30 << 20


async def test_a_generation_that_cannot_be_loaded_again_gives_way_to_the_rows_of_the_catalog(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would answer for ever from what it had before the database was restored, and call that complete."""
    monkeypatch.setattr(replicas, "_LOOK_S", 0.02)
    monkeypatch.setattr(replicas, "_LOAD_AGAIN_S", 0.1)
    monkeypatch.setattr(shard_view, "_RELOAD_PAUSES_S", (0.01, 0.01))
    async with generated(postgres, tmp_path, shards=1) as things:
        await things.put(range(20))
        generation = await things.activated()
        async with things.replica() as replica:
            (tmp_path / "objects").rename(tmp_path / "away")
            view = replica._views[generation]
            await execute(things, "UPDATE meta SET value = '1/00000001/1' WHERE key = 'history'")
            async with asyncio.timeout(20):
                while replica._views[generation] is view:  # noqa: ASYNC110 - it polls
                    await asyncio.sleep(0.02)
            await things.put(range(20, 30))
            assert await found(replica, 25) == [image_id(25)]
            assert generation in (replica._told_problems() or "")
