"""A gateway in this process: real Postgres, encoder, decoder processes, object folder and shards; only Ray is left out."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from tests.postgres import running_postgres

from visualindex.building import Kept
from visualindex.catalog import (
    CHECK,
    COMPARE,
    INGEST,
    REINDEX,
    RERANK_TRIAL,
    SHADOW,
    Catalog,
    EmbeddedPostgres,
    JobRecord,
    migrate,
)
from visualindex.credentials import Credentials, from_environment
from visualindex.errors import TYPE_PREFIX
from visualindex.generations import NodeCache
from visualindex.objectstore import open_store
from visualindex.spec import API_VERSION, KIND, VisualIndex
from visualindex_jobs.build import carry_out as build
from visualindex_jobs.check import carry_out as check
from visualindex_jobs.compare import carry_out as compare
from visualindex_jobs.ingest import carry_out as take_in
from visualindex_jobs.reindex import Surroundings
from visualindex_jobs.reindex import carry_out as reindex
from visualindex_jobs.rerank_trial import carry_out as measure
from visualindex_jobs.shadow import carry_out as shadow
from visualindex_serving.background_jobs import RunJob, features_of
from visualindex_serving.fanout import ShardCall
from visualindex_serving.gateway import create_app
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.generation_patches import GenerationPatches
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import ShardAnswer, ShardQuery
from visualindex_serving.rerank_deployment import make_reranker, verified
from visualindex_serving.rerank_messages import RerankAnswer, RerankQuery
from visualindex_serving.reranker import Reranker
from visualindex_serving.shard import ShardReplica
from visualindex_serving.shard_wire import Place

from .pictures import fresh_database, picture


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


NONE = Credentials("")


class InProcess:
    """Shards of one process, opened when first asked."""

    def __init__(self, dsn: str, resources: list[VisualIndex], state: Path, stack: AsyncExitStack) -> None:
        self._dsn = dsn
        self._state = state
        self._resources = {r.name: r for r in resources}
        self._stack = stack
        self._lock = asyncio.Lock()
        self.replicas: dict[tuple[str, int], ShardReplica] = {}
        self.broken: set[tuple[str, int]] = set()
        self.stalled: set[tuple[str, int]] = set()
        self.reached = asyncio.Event()

    def connect(self, place: Place) -> ShardCall:
        index, shard = place.index, place.shard

        async def call(query: ShardQuery) -> ShardAnswer:
            if (index, shard) in self.broken:
                raise ConnectionError("the replica is gone")
            if (index, shard) in self.stalled:
                self.reached.set()
                await asyncio.Event().wait()
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
        resource = self._resources[index]
        access = await from_environment()
        store = open_store(resource.spec.storage, default_folder=self._state / "objects", credentials=access)
        self._stack.push_async_callback(store.close)
        files = GenerationFiles(store, NodeCache(self._state / "generations", 1 << 30))
        replica = ShardReplica(resource, shard, catalog, files=files)
        await replica.open()
        self._stack.push_async_callback(replica.close)
        return replica


def in_this_process(dsn: str, state: Path) -> RunJob:
    """Background jobs without Ray."""

    async def run(index: IndexService, job: JobRecord) -> None:
        catalog = await Catalog.open(dsn, max_connections=2)
        try:
            if job.kind == INGEST:
                access = await from_environment()
                await take_in(catalog, index.store, index.resource, job, state / "cache", access=access)
                return
            if job.kind == CHECK:
                await check(catalog, index.store, index.resource, job)
                return
            features = features_of(index, job)
            cache = NodeCache(state / "generations", 1 << 30)
            kept = None if features is None else Kept(features, cache)
            if job.kind == REINDEX:
                folders = state / "cache", state / "building"
                around = Surroundings(catalog, index.store, index.resource, *folders, patches=kept)
                await reindex(around, job)
            elif job.kind == RERANK_TRIAL:
                await measure(catalog, index.store, index.resource, job, state / "cache", patches=kept)
            elif job.kind == SHADOW:
                await shadow(catalog, index.resource, job)
            elif job.kind == COMPARE:
                await compare(catalog, index.store, index.resource, job, cache)
            else:
                folder = state / "building"
                await build(catalog, index.store, index.resource, job, folder, cache, patches=kept)
        finally:
            await catalog.close()

    return run


class InProcessRerankers:
    """The rerankers of one index in this process, opened when first asked; they may be made slow or broken."""

    def __init__(self, dsn: str, resource: VisualIndex, state: Path, stack: AsyncExitStack) -> None:
        self._dsn = dsn
        self._state = state
        self._resource = resource
        self._stack = stack
        self._reranker: Reranker | None = None
        self.generations: GenerationPatches | None = None
        self.broken = False
        self.stalled = False

    async def rerank(self, query: RerankQuery) -> RerankAnswer:
        if self.broken:
            raise ConnectionError("the reranker is gone")
        if self.stalled:
            await asyncio.Event().wait()
        return await (await self._opened()).rerank(query)

    async def verify(self, query: bytes, candidates: list[bytes | None], deadline: float) -> list[int]:
        return await verified(await self._opened(), query, candidates, deadline)

    async def _opened(self) -> Reranker:
        if self._reranker is None:
            catalog = await Catalog.open(self._dsn, max_connections=2)
            self._stack.push_async_callback(catalog.close)
            store = open_store(
                self._resource.spec.storage, default_folder=self._state / "objects", credentials=NONE
            )
            self._stack.push_async_callback(store.close)
            cache = NodeCache(self._state / "generations", 1 << 30)
            self.generations = GenerationPatches(catalog, store, cache, self._resource.name)
            self._stack.push_async_callback(self.generations.close)
            self._reranker = make_reranker(self._resource, catalog, None, self.generations.segments)
            self._stack.callback(self._reranker.close)
        return self._reranker


class Served:
    """A running gateway: its HTTP client, its catalog's address, its shards and its rerankers."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        dsn: str,
        shards: InProcess,
        rerankers: dict[str, InProcessRerankers],
        state: Path,
        app: FastAPI,
    ) -> None:
        self.client = client
        self.rerankers = rerankers
        self.app = app
        self.dsn = dsn
        self.shards = shards
        self.state = state


def spec_document(name: str = "things", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def serving(
    server: EmbeddedPostgres, state: Path, cache: Path, *documents: dict[str, Any], host: str = "127.0.0.1"
) -> AsyncIterator[Served]:
    """A gateway for the documents over a fresh database."""
    with fresh_database(server) as dsn:
        await migrate(dsn)
        async with serving_on(dsn, state, cache, *documents, host=host) as served:
            yield served


@asynccontextmanager
async def serving_on(
    dsn: str, state: Path, cache: Path, *documents: dict[str, Any], host: str = "127.0.0.1"
) -> AsyncIterator[Served]:
    """A gateway for the documents, with shards of its own, over a database that others may be using, too."""
    with pytest.MonkeyPatch.context() as environment:
        (state / "cache").exists() or (state / "cache").symlink_to(cache)
        environment.setenv("VISUALINDEX_MODE", "local")
        environment.setenv("VISUALINDEX_LISTEN_HOST", host)
        environment.setenv("VISUALINDEX_POSTGRES_DSN", dsn)
        environment.setenv("VISUALINDEX_STATE_DIR", str(state))
        resources = [VisualIndex.model_validate(d) for d in documents]
        async with AsyncExitStack() as stack:
            shards = InProcess(dsn, resources, state, stack)
            rerankers = {r.name: InProcessRerankers(dsn, r, state, stack) for r in resources}
            app = create_app(
                list(documents),
                shards.connect,
                run_job=in_this_process(dsn, state),
                rerankers=lambda r: rerankers[r.name],
            )
            manager = await stack.enter_async_context(
                LifespanManager(app, startup_timeout=240, shutdown_timeout=30)
            )
            transport = httpx.ASGITransport(app=manager.app)
            client = await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60)
            )
            yield Served(client, dsn, shards, rerankers, state, app)


@pytest.fixture
def serve(postgres: EmbeddedPostgres, tmp_path: Path, cache_dir: Path) -> Any:
    """`async with serve(document, …) as served`: a gateway for the documents over a fresh database."""

    def start(*documents: dict[str, Any], host: str = "127.0.0.1") -> Any:
        return serving(postgres, tmp_path, cache_dir, *documents, host=host)

    return start


@pytest.fixture
async def served(serve: Any) -> AsyncIterator[Served]:
    async with serve(spec_document()) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> AsyncIterator[Served]:
    """One gateway for all tests of a module that asks for it; they bear each other's images."""
    async with serving(postgres, tmp_path_factory.mktemp("state"), cache_dir, spec_document()) as running:
        yield running


async def put(served: Served, seed: int, **fields: str) -> dict[str, Any]:
    """Store the picture of that seed under the key `k<seed>`."""
    answer = await served.client.post(
        "/api/images", files={"image": ("p.jpg", picture(seed))}, data={"key": f"k{seed}", **fields}
    )
    assert answer.is_success, answer.text
    written: dict[str, Any] = answer.json()
    return written


async def found_keys(served: Served, seed: int, **fields: Any) -> list[str]:
    """The keys that a search with the picture of that seed finds."""
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    answer = await served.client.post("/api/search", files={"image": ("q.jpg", picture(seed))}, data=form)
    assert answer.status_code == 200, answer.text
    return [hit["key"] for hit in answer.json()["hits"]]


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must be exactly this one."""
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["type"]) == (status, TYPE_PREFIX + slug), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["detail"]
    return document
