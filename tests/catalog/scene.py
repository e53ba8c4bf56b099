"""What the area's tests set up: databases, images and vectors."""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from visualindex.catalog import Catalog, ChangeFollower, Changes, EmbeddedPostgres, ImageWrite, Rows
from visualindex.identity import BUCKETS, content_digest

INDEX = "shoes"
FINGERPRINT = "encoder-a"
DIMENSION = 8
ALL = range(BUCKETS)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that the server's account can reach as long as it lives: pytest locks its own against other accounts."""
    with tempfile.TemporaryDirectory(prefix="visualindex-") as name:
        yield Path(name)


@contextlib.contextmanager
def serving(embedded: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    embedded.start()
    try:
        yield embedded
    finally:
        embedded.stop()


def create_database(server: EmbeddedPostgres) -> str:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_conninfo(server.dsn, dbname=name)


def vector(seed: int, dimension: int = DIMENSION) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def image(
    number: int = 0, *, image_id: uuid.UUID | None = None, content: bytes | None = None, **fields: object
) -> ImageWrite:
    data = content if content is not None else f"picture {number}".encode()
    values: dict[str, object] = {
        "image_id": image_id or uuid.uuid5(uuid.NAMESPACE_OID, str(number)),
        "content_digest": content_digest(data),
        "media_type": "image/jpeg",
        "width": 640,
        "height": 480,
        "size_bytes": len(data),
        "embeddings": {(0, FINGERPRINT): vector(number)},
        "category": "boots",
        "metadata": {"number": number},
    }
    return ImageWrite(**{**values, **fields})  # type: ignore[arg-type]


def number_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


class Shard:
    """The simplest shard: a dictionary that applies what a follower hands out."""

    def __init__(self, catalog: Catalog, buckets: range = ALL) -> None:
        self.follower: ChangeFollower = catalog.follow(INDEX, FINGERPRINT, buckets)
        self.rows: dict[uuid.UUID, tuple[int, dict[str, object], bytes]] = {}

    async def load(self, batch_rows: int = 1000) -> "Shard":
        self.rows.clear()
        async for part in self.follower.load(batch_rows):
            self._upsert(part)
        return self

    async def poll(self, limit: int = 1000) -> Changes:
        changes = await self.follower.poll(limit)
        self._upsert(changes.upserts)
        for image_id in changes.deleted:
            self.rows.pop(image_id, None)
        return changes

    def _upsert(self, part: Rows) -> None:
        columns = zip(part.image_ids, part.versions, part.metadata, part.vectors, strict=True)
        for image_id, version, metadata, stored in columns:
            known = self.rows.get(image_id)
            assert known is None or known[0] <= version, "a version went backwards"
            self.rows[image_id] = (int(version), metadata, stored.tobytes())


async def truth(catalog: Catalog) -> dict[uuid.UUID, tuple[int, dict[str, object], bytes]]:
    """What a shard must hold now, read without the change log."""
    return (await Shard(catalog).load()).rows
