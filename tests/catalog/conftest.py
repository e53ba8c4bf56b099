"""One real Postgres for the area's tests, and a fresh database of it for every test."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.identity import content_digest

INDEX = "shoes"
FINGERPRINT = "encoder-a"
DIMENSION = 8


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    embedded.start()
    yield embedded
    embedded.stop()


def create_database(server: EmbeddedPostgres) -> str:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_conninfo(server.dsn, dbname=name)


@pytest.fixture
def empty_dsn(server: EmbeddedPostgres) -> Iterator[str]:
    dsn = create_database(server)
    yield dsn
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {psycopg.conninfo.conninfo_to_dict(dsn)['dbname']} WITH (FORCE)")


@pytest.fixture
async def dsn(empty_dsn: str) -> str:
    await migrate(empty_dsn)
    return empty_dsn


@pytest.fixture
async def catalog(dsn: str) -> AsyncIterator[Catalog]:
    opened = await Catalog.open(dsn)
    await opened.ensure_index(INDEX, FINGERPRINT, DIMENSION)
    yield opened
    await opened.close()


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
