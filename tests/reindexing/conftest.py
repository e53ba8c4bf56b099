"""An index of small pictures in a database and a folder of its own."""

import os
import secrets
import subprocess
import sys
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


_CLUSTER = """
import sys, ray
started = ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=256 * 1024**2)
print("address:", started["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that lead to a cluster of this machine, with as many CPUs as the tests take, and where it is noticed."""
    notice = {"VISUALINDEX_NOTICE_DIR": str(tmp_path_factory.mktemp("notice"))}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        env={**os.environ, **token, **notice},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next(line for line in lines if line.startswith("address:")).split()[1]
        yield {**token, **notice, "RAY_ADDRESS": address}
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
