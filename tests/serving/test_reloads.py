"""A shard that has to load a generation again keeps its files once, and tells of it while it cannot."""

import asyncio
import shutil
from pathlib import Path

import pytest

from visualindex.catalog import EmbeddedPostgres
from visualindex.errors import ProblemError
from visualindex.objectstore.layout import part_prefix
from visualindex_serving import shard_view

from .generated import NAME, found, generated, image_id


def leases(root: Path) -> int:
    return len(list((root / "generations" / "leases").iterdir()))


async def test_a_view_that_loads_again_holds_its_files_once(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        generation = await things.activated()
        async with things.replica() as replica:
            assert leases(tmp_path) == 1
            for _ in range(5):
                await replica._views[generation]._reload()
            assert leases(tmp_path) == 1
            assert await found(replica, 7) == [image_id(7)]
        assert leases(tmp_path) == 0


async def test_files_that_cannot_be_opened_are_not_held(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    async with generated(postgres, tmp_path, shards=2) as things:
        await things.put(range(20))
        generation = await things.activated()
        record = await things.catalog.get_generation(NAME, generation)
        files = things.files()
        held = await files.open(record, range(512))
        assert (len(held), leases(tmp_path)) == (1, 1)
        shutil.rmtree(tmp_path / "objects" / "objects" / part_prefix(NAME))
        with pytest.raises(ProblemError):
            await files.open(record, range(1024))
        assert leases(tmp_path) == 1
        files.close(generation)
        assert leases(tmp_path) == 0


async def test_a_view_that_cannot_load_again_answers_tells_why_and_waits_longer_each_time(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_view, "_RELOAD_PAUSES_S", (0.01, 0.02) + (0.04,) * 1000)
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        generation = await things.activated()
        async with things.replica() as replica:
            view, away = replica._views[generation], tmp_path / "away"
            (tmp_path / "objects").rename(away)
            reloading = asyncio.create_task(view._reload())
            async with asyncio.timeout(20):
                while view.problem is None:  # noqa: ASYNC110 - what is waited for sets no event
                    await asyncio.sleep(0.005)
            assert await found(replica, 7) == [image_id(7)]
            await replica._lease()
            (load,) = await things.catalog.replica_loads(NAME)
            assert (load.problem or "").startswith(f"{generation}: it cannot load again: ")
            away.rename(tmp_path / "objects")
            async with asyncio.timeout(20):
                await reloading
            assert view.problem is None
            assert leases(tmp_path) == 1
