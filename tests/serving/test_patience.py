"""A part that starts before what it needs waits for it, and starts."""

import asyncio
from pathlib import Path

import httpx
import pytest
from asgi_lifespan import LifespanManager

from visualindex.catalog import Catalog, EmbeddedPostgres, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.gateway import create_app
from visualindex_serving.patience import once_there
from visualindex_serving.shard_deployment import registered

from .conftest import spec_document
from .pictures import fresh_database


@pytest.fixture
def environment(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    (tmp_path / "cache").symlink_to(cache_dir)
    monkeypatch.setenv("VISUALINDEX_MODE", "local")
    monkeypatch.setenv("VISUALINDEX_LISTEN_HOST", "127.0.0.1")
    monkeypatch.setenv("VISUALINDEX_STATE_DIR", str(tmp_path))
    return monkeypatch


async def test_a_gateway_waits_for_the_schema(
    postgres: EmbeddedPostgres, environment: pytest.MonkeyPatch
) -> None:
    with fresh_database(postgres) as dsn:
        environment.setenv("VISUALINDEX_POSTGRES_DSN", dsn)
        manager = LifespanManager(create_app([spec_document()]), startup_timeout=120, shutdown_timeout=30)
        starting = asyncio.create_task(manager.__aenter__())
        done, _ = await asyncio.wait({starting}, timeout=1)
        assert not done
        await migrate(dsn)
        app = (await starting).app
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1"
        ) as client:
            assert (await client.get("/healthz")).status_code == 200
        await manager.__aexit__(None, None, None)


async def test_a_shard_waits_for_its_index_to_be_registered(postgres: EmbeddedPostgres) -> None:
    with fresh_database(postgres) as dsn:
        await migrate(dsn)
        catalog = await Catalog.open(dsn)
        waiting = asyncio.create_task(registered(catalog, "things"))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        await catalog.ensure_index("things", "the-encoder", 256)
        assert await waiting == "the-encoder"
        await catalog.close()


async def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    tries = 0

    async def refuse() -> None:
        nonlocal tries
        tries += 1
        raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, "another encoder")

    with pytest.raises(ProblemError, match="another encoder"):
        await once_there("the index", refuse)
    assert tries == 1
