"""Images whose vectors point nowhere: none gets in, and one that is in keeps nobody else from being found."""

import logging
from pathlib import Path

import numpy as np
import pytest

from visualindex.catalog import EmbeddedPostgres

from .generated import DIMENSION, NAME, found, generated, image_id, written

ZERO = np.zeros(DIMENSION, "<f2").tobytes()
NAN = np.full(DIMENSION, np.nan, "<f2").tobytes()
INFINITE = np.array([np.inf] + [0.1] * (DIMENSION - 1), "<f2").tobytes()


@pytest.mark.parametrize("stored", [ZERO, NAN, INFINITE])
async def test_a_stored_vector_without_direction_is_passed_over_by_builds_and_shards(
    postgres: EmbeddedPostgres, tmp_path: Path, stored: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "visualindex.catalog.directions")
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        await things.store_as_it_was(3, stored)
        async with things.replica() as live:  # every row comes from the catalog
            assert set(await found(live, 3, 20)) == {image_id(n) for n in range(20) if n != 3}
        generation = await things.activated()
        assert f"images of index {NAME}" in caplog.text
        assert str(image_id(3)) in caplog.text
        (record,) = await things.catalog.list_generations(NAME)
        assert sum(shard["images"] for shard in record.manifest["shards"]) == 19
        async with things.replica() as replica:
            assert replica.generations == [generation]
            assert set(await found(replica, 3, 20)) == {image_id(n) for n in range(20) if n != 3}


async def test_a_shard_goes_on_when_the_log_brings_a_vector_without_direction(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        generation = await things.activated()
        async with things.replica() as replica:
            await things.store_as_it_was(3, ZERO)
            await things.catalog.patch_image(NAME, image_id(3), category="chairs")
            assert set(await found(replica, 3, 20)) == {image_id(n) for n in range(20) if n != 3}
            replica.check()
            await things.catalog.put_images(NAME, [written(3)])
            assert await found(replica, 3) == [image_id(3)]
            await things.store_as_it_was(4, NAN)
            view = replica._views[generation]
            await view.mend([image_id(4), image_id(5)])
            assert set(await found(replica, 4, 20)) == {image_id(n) for n in range(20) if n != 4}
            replica.check()
