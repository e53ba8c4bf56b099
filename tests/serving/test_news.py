"""A shard that is told of a write shows it at once, however rarely it looks into the change log by itself."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest_asyncio

from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.identity import content_digest
from visualindex.spec import VisualIndex
from visualindex_serving.messages import ShardQuery
from visualindex_serving.shard import ShardReplica

from .conftest import spec_document
from .pictures import fresh_database

FINGERPRINT = "encoder-a"
DIMENSION = 64
RARELY_MS = 10_000
RESOURCE = VisualIndex.model_validate(
    spec_document(encoder={"dimension": DIMENSION}, index={"pollIntervalMs": RARELY_MS})
)


def write(number: int) -> ImageWrite:
    return ImageWrite(
        image_id=uuid.UUID(int=number),
        content_digest=content_digest(str(number).encode()),
        media_type="image/jpeg",
        width=64,
        height=64,
        size_bytes=100,
        embeddings={(0, FINGERPRINT): np.eye(DIMENSION, dtype=np.float32)[number]},
    )


@pytest_asyncio.fixture
async def catalog(postgres: EmbeddedPostgres) -> AsyncIterator[Catalog]:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn, max_connections=3)
        await catalog.ensure_index(RESOURCE.name, FINGERPRINT, DIMENSION)
        yield catalog
        await catalog.close()


async def found(replica: ShardReplica, number: int) -> bool:
    vector = np.eye(DIMENSION, dtype=np.float32)[number][None]
    answer = await replica.search(ShardQuery(vector, 1, None, (), time.time() + 5))
    return bool(answer.counts[0]) and answer.ids[0, 0].tobytes() == uuid.UUID(int=number).bytes


async def test_a_write_is_seen_as_soon_as_the_shard_is_told(catalog: Catalog) -> None:
    replica = ShardReplica(RESOURCE, 0, catalog)
    await replica.open()
    try:
        async with asyncio.timeout(RARELY_MS / 2000):
            for number in (1, 2, 3):
                await catalog.put_images(RESOURCE.name, [write(number)])
                replica.tell_news()
                seen = False
                while not seen:
                    await asyncio.sleep(0)
                    seen = await found(replica, number)
    finally:
        await replica.close()
