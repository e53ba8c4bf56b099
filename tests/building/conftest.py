"""An index of random vectors, in a database and a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.reindexing.conftest import cache_dir, postgres
from tests.serving.pictures import fresh_database

from visualindex.catalog import EmbeddedPostgres, migrate

from .filled import Filled

__all__ = ["cache_dir", "postgres"]  # fixtures


@pytest.fixture
async def filled(postgres: EmbeddedPostgres, tmp_path: Path, cache_dir: Path) -> AsyncIterator[Filled]:
    """An index with 400 images."""
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        async with Filled(dsn, tmp_path, cache_dir) as opened:
            await opened.fill(range(400))
            yield opened
