"""One real Postgres for the area's tests, and a fresh database of it for every test."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from visualindex.catalog import Catalog, EmbeddedPostgres, migrate

from .scene import DIMENSION, FINGERPRINT, INDEX, create_database, folder, serving


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    with folder() as state, serving(EmbeddedPostgres(state)) as embedded:
        yield embedded


@pytest.fixture
def second() -> Iterator[EmbeddedPostgres]:
    with folder() as state, serving(EmbeddedPostgres(state)) as embedded:
        yield embedded


@pytest.fixture
def empty_dsn(server: EmbeddedPostgres) -> Iterator[str]:
    dsn = create_database(server)
    yield dsn
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {conninfo_to_dict(dsn)['dbname']} WITH (FORCE)")


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
