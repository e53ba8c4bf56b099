"""An index of small pictures in a database and a folder of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgres import running_postgres
from tests.serving.pictures import fresh_database

from visualindex.catalog import EmbeddedPostgres, migrate

from .collection import Collection


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def things(postgres: EmbeddedPostgres, tmp_path: Path, cache_dir: Path) -> AsyncIterator[Collection]:
    """An empty index."""
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with Collection(dsn, tmp_path, cache_dir) as opened:
            yield opened
