"""An index of vectors without pictures, its generations, and replicas of its one shard: no gateway, no encoder."""

import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from visualindex.building import build_generation
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, Position, migrate
from visualindex.generations import NodeCache
from visualindex.identity import content_digest
from visualindex.objectstore import LocalObjectStore
from visualindex.spec import VisualIndex
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard import ShardReplica

from .conftest import spec_document
from .pictures import fresh_database

NAME = "things"
FINGERPRINT = "encoder-a"
DIMENSION = 8


def image_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


def vector(number: int) -> np.ndarray:
    drawn = np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def written(number: int, of: int | None = None) -> ImageWrite:
    """The image of a number, with the vector of another one where it is given."""
    return ImageWrite(
        image_id=image_id(number),
        content_digest=content_digest(str(number).encode()),
        media_type="image/jpeg",
        width=64,
        height=64,
        size_bytes=100,
        embeddings={(0, FINGERPRINT): vector(number if of is None else of)},
    )


class Generated:
    """What one test works with."""

    def __init__(self, catalog: Catalog, root: Path, **index: Any) -> None:
        self.catalog = catalog
        self.root = root
        self.store = LocalObjectStore(root / "objects")
        self.resource = VisualIndex.model_validate(
            spec_document(encoder={"dimension": DIMENSION}, index={"pollIntervalMs": 10, **index})
        )

    async def put(self, numbers: Iterable[int]) -> None:
        await self.catalog.put_images(NAME, [written(number) for number in numbers])

    async def activated(self) -> str:
        """A generation of all images, built and made the active one, as if shards had loaded it."""
        built = await build_generation(self.catalog, self.store, self.resource, self.root / "scratch")
        await self.catalog.prepare_generation(NAME, built.generation)
        await self.catalog.activate_generation(NAME, built.generation)
        return built.generation

    async def position(self) -> Position:
        """Where the change log stands."""
        follower = self.catalog.follow(NAME, FINGERPRINT, range(1024))
        async for _ in follower.load():
            pass
        return follower.position

    def files(self) -> GenerationFiles:
        return GenerationFiles(self.store, NodeCache(self.root / "generations", 1 << 30))

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[ShardReplica]:
        """A replica that is open."""
        opened = ShardReplica(self.resource, 0, self.catalog, files=self.files())
        await opened.open()
        try:
            yield opened
        finally:
            await opened.close()

    async def store_as_it_was(self, number: int, stored: bytes) -> None:
        """A vector as an earlier release would have taken it in."""

        async def work(transaction: Any) -> None:
            await transaction.connection.execute(
                "UPDATE image_embeddings SET vector = %s WHERE image_id = %s", (stored, image_id(number))
            )

        await self.catalog.connections.write(work)


@asynccontextmanager
async def generated(postgres: EmbeddedPostgres, root: Path, **index: Any) -> AsyncIterator[Generated]:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        try:
            await catalog.ensure_index(NAME, FINGERPRINT, DIMENSION)
            yield Generated(catalog, root, **index)
        finally:
            await catalog.close()


async def found(replica: ShardReplica, number: int, k: int = 1) -> list[uuid.UUID]:
    """The best hits for the vector of a number, with everything that was written before."""
    query = ShardQuery(vector(number)[None], k, None, (), time.time() + 20, strong=True, wait_s=20)
    answer: ShardAnswer = await replica.search(query)
    assert answer.behind_s is None
    return [uuid.UUID(bytes=one.tobytes()) for one in answer.ids[0, : answer.counts[0]]]
