"""A shard that is over its memory budget answers, follows the log, and takes in what is missing once there is room."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from visualindex.ann import Deletes, ShardIndex, Upserts
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.catalog.connections import Transaction
from visualindex.errors import ProblemError
from visualindex.identity import content_digest
from visualindex.spec import VisualIndex
from visualindex.spec.models import HnswSpec
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard import ShardReplica
from visualindex_serving.shard_view import take

from .conftest import spec_document
from .pictures import fresh_database

FINGERPRINT = "encoder-a"
IMAGES = 600
RESOURCE = VisualIndex.model_validate(
    spec_document(encoder={"dimension": 1280}, index={"memoryPerShard": "1Mi", "pollIntervalMs": 10})
)


def image_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


def vectors(count: int, seed: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, 1280)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def written(numbers: range, seed: int = 1) -> list[ImageWrite]:
    drawn = vectors(IMAGES, seed)
    return [
        ImageWrite(
            image_id=image_id(n),
            content_digest=content_digest(str(n).encode()),
            media_type="image/jpeg",
            width=64,
            height=64,
            size_bytes=100,
            embeddings={(0, FINGERPRINT): drawn[n % IMAGES]},
        )
        for n in numbers
    ]


@pytest_asyncio.fixture
async def catalog(postgres: EmbeddedPostgres) -> AsyncIterator[Catalog]:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        opened = await Catalog.open(dsn)
        await opened.ensure_index(RESOURCE.name, FINGERPRINT, 1280)
        yield opened
        await opened.close()


@pytest_asyncio.fixture
async def replica(catalog: Catalog) -> AsyncIterator[ShardReplica]:
    await catalog.put_images(RESOURCE.name, written(range(IMAGES)))
    opened = ShardReplica(RESOURCE, 0, catalog)
    await opened.open()
    yield opened
    await opened.close()


async def ask(replica: ShardReplica, vector: np.ndarray) -> ShardAnswer:
    """The best hit, with everything that was written before."""
    query = ShardQuery(vector[None], 1, None, (), time.time() + 20, strong=True, wait_s=20)
    answer = await replica.search(query)
    assert answer.behind_s is None
    assert answer.full is replica.full
    return answer


async def test_a_full_shard_opens_with_what_fits_and_keeps_following(
    replica: ShardReplica, catalog: Catalog
) -> None:
    assert replica.full
    drawn = vectors(IMAGES)
    held = (await ask(replica, drawn[0])).rows
    assert 0 < held < IMAGES
    await catalog.put_images(RESOURCE.name, written(range(IMAGES, IMAGES + 300)))
    assert 0 < (await ask(replica, drawn[0])).rows < IMAGES
    replica.check()


async def test_a_full_shard_takes_in_what_is_missing_once_there_is_room(
    replica: ShardReplica, catalog: Catalog
) -> None:
    for number in range(IMAGES - 100):
        await catalog.delete_image(RESOURCE.name, image_id(number))
    drawn = vectors(IMAGES)
    async with asyncio.timeout(30):
        while replica.full or (await ask(replica, drawn[0])).rows != 100:
            pass  # every question waits for a poll of the log
    for number in range(IMAGES - 100, IMAGES):
        answer = await ask(replica, drawn[number])
        assert uuid.UUID(bytes=answer.ids[0, 0].tobytes()) == image_id(number)


async def test_a_load_that_fails_gives_its_index_back(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has no vectors to read: the index of the attempt, and that of the replica, are closed."""
    closed: list[ShardIndex] = []
    close = ShardIndex.close
    monkeypatch.setattr(ShardIndex, "close", lambda index: (closed.append(index), close(index))[1])

    async def lose_vectors(transaction: Transaction) -> None:
        await transaction.connection.execute("ALTER TABLE image_embeddings RENAME TO elsewhere")

    await catalog.connections.write(lose_vectors)
    with pytest.raises(ProblemError):
        await ShardReplica(RESOURCE, 0, catalog).open()
    assert len(set(map(id, closed))) == 2


def test_an_update_that_does_not_fit_removes_the_old_copy() -> None:
    """Otherwise the image would be found by what it no longer is."""
    index = ShardIndex(1280, flat_below=1 << 30, hnsw=HnswSpec(), memory_limit=1 << 20)
    ids = np.frombuffer(b"".join(image_id(n).bytes for n in range(IMAGES)), np.uint8).reshape(-1, 16)

    def rows(seed: int, version: int) -> Upserts:
        return Upserts(ids, vectors(IMAGES, seed), [{"n": version}] * IMAGES, np.full(IMAGES, version))

    assert take(index, rows(1, 1), None)
    held = len(index)
    assert held > 0
    assert take(index, rows(2, 2), Deletes(ids[:1]))
    old = index.search(vectors(IMAGES, 1), 1)
    assert not (old.scores[old.counts > 0] > 0.9).any()
    index.close()
