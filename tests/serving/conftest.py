"""A gateway in this process: real Postgres, encoder, decoder processes, object folder and shards; only Ray is left out."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager

from visualindex.catalog import Catalog, EmbeddedPostgres, migrate
from visualindex.spec import API_VERSION, KIND, VisualIndex
from visualindex_serving.fanout import ShardCall
from visualindex_serving.gateway import create_app
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.shard import ShardReplica

from .pictures import fresh_database


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="vi-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class InProcess:
    """Shards of one process, opened when first asked."""

    def __init__(self, dsn: str, resources: list[VisualIndex], stack: AsyncExitStack) -> None:
        self._dsn = dsn
        self._resources = {r.name: r for r in resources}
        self._stack = stack
        self._lock = asyncio.Lock()
        self.replicas: dict[tuple[str, int], ShardReplica] = {}
        self.broken: set[tuple[str, int]] = set()

    def connect(self, index: str, shard: int) -> ShardCall:
        async def call(query: ShardQuery) -> ShardAnswer:
            if (index, shard) in self.broken:
                raise ConnectionError("the replica is gone")
            return await (await self.replica(index, shard)).search(query)

        return call

    async def replica(self, index: str, shard: int) -> ShardReplica:
        async with self._lock:
            if (index, shard) not in self.replicas:
                self.replicas[index, shard] = await self._open(index, shard)
            return self.replicas[index, shard]

    async def _open(self, index: str, shard: int) -> ShardReplica:
        catalog = await Catalog.open(self._dsn, max_connections=2)
        self._stack.push_async_callback(catalog.close)
        record = await catalog.get_index(index)
        assert record is not None
        replica = ShardReplica(self._resources[index], shard, catalog, record.fingerprint)
        await replica.open()
        self._stack.push_async_callback(replica.close)
        return replica


class Served:
    """A running gateway: its HTTP client, its catalog's address and its shards."""

    def __init__(self, client: httpx.AsyncClient, dsn: str, shards: InProcess, state: Path) -> None:
        self.client = client
        self.dsn = dsn
        self.shards = shards
        self.state = state


def spec_document(name: str = "things", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def serve(
    postgres: EmbeddedPostgres, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """`async with serve(document, …) as served`: a gateway for the documents over a fresh database."""

    @asynccontextmanager
    async def serving(*documents: dict[str, Any], host: str = "127.0.0.1") -> AsyncIterator[Served]:
        with fresh_database(postgres) as dsn:
            await migrate(dsn)
            (tmp_path / "cache").exists() or (tmp_path / "cache").symlink_to(cache_dir)
            monkeypatch.setenv("VISUALINDEX_MODE", "local")
            monkeypatch.setenv("VISUALINDEX_LISTEN_HOST", host)
            monkeypatch.setenv("VISUALINDEX_POSTGRES_DSN", dsn)
            monkeypatch.setenv("VISUALINDEX_STATE_DIR", str(tmp_path))
            resources = [VisualIndex.model_validate(d) for d in documents]
            async with AsyncExitStack() as stack:
                shards = InProcess(dsn, resources, stack)
                app = create_app(list(documents), shards.connect)
                manager = await stack.enter_async_context(
                    LifespanManager(app, startup_timeout=60, shutdown_timeout=30)
                )
                transport = httpx.ASGITransport(app=manager.app)
                client = await stack.enter_async_context(
                    httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60)
                )
                yield Served(client, dsn, shards, tmp_path)

    return serving


@pytest.fixture
async def served(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document()) as running:
        yield running
