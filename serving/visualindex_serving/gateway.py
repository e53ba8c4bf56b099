"""The gateway: HTTP in front, everything else behind it."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from visualindex import __version__
from visualindex.api.checks import CheckRequest
from visualindex.api.generations import (
    ActivateGenerationRequest,
    ActivateRequest,
    BuildRequest,
    ReindexRequest,
    ShadowRequest,
)
from visualindex.api.images import BatchRequest, EmbeddingRequest, ImagePatch, ImageRequest
from visualindex.api.ingesting import IngestRequest
from visualindex.api.search import FeedbackRequest, SearchRequest
from visualindex.catalog import Catalog, IndexRecord
from visualindex.fetching import SafeFetcher
from visualindex.footprint import decode_workers
from visualindex.imaging import DecodePool
from visualindex.ingesting.places import Places
from visualindex.objectstore import open_store
from visualindex.serve_config import RERANKER, index_application
from visualindex.spec import Spec, VisualIndex
from visualindex.spec.served_encoder import encoder_settings, with_settings
from visualindex_serving import openapi, pages, problems, whole_answers
from visualindex_serving.access import Authenticator
from visualindex_serving.active_generations import ActiveGenerations
from visualindex_serving.admission import Admission
from visualindex_serving.background_jobs import BackgroundJobs, RunJob, run_in_ray
from visualindex_serving.config import Runtime, read_specs
from visualindex_serving.cores import cores
from visualindex_serving.encoder_in_use import EncoderInUse, open_in_use
from visualindex_serving.fanout import Fanout, ShardCall
from visualindex_serving.heads import HeadAsGet
from visualindex_serving.held_encoders import HeldEncoders
from visualindex_serving.index_service import IndexService
from visualindex_serving.maintenance import Maintenance
from visualindex_serving.metrics import Metrics
from visualindex_serving.mounting import AsFolder
from visualindex_serving.observed import Observed
from visualindex_serving.origins import Origins
from visualindex_serving.patience import once_there
from visualindex_serving.reading_ahead import ReadAhead
from visualindex_serving.records import Records
from visualindex_serving.rerank_link import RemoteRerankers, StoredPictures
from visualindex_serving.reranking import Rerankers, Reranking
from visualindex_serving.routes import (
    batches,
    checks,
    events,
    feedback,
    generations,
    health,
    images,
    internal,
    metrics,
    reindexing,
    schedules,
    searching,
    thumbnails,
)
from visualindex_serving.search_log import SearchLog
from visualindex_serving.service import Service
from visualindex_serving.settling import settle
from visualindex_serving.shadowing import Shadowing
from visualindex_serving.shard_directory import ShardDirectory
from visualindex_serving.shard_wire import Place, link_key
from visualindex_serving.thumbnail_making import Thumbnails

logger = logging.getLogger(__name__)


_BODIES: list[type[BaseModel]] = [
    SearchRequest,
    FeedbackRequest,
    ImageRequest,
    ImagePatch,
    BatchRequest,
    EmbeddingRequest,
    ActivateGenerationRequest,
    BuildRequest,
    CheckRequest,
    ReindexRequest,
    ShadowRequest,
    ActivateRequest,
    IngestRequest,
]
_BODIES_IN_FLIGHT = 4  # of the largest size
_QUIET_WRITES = 3  # times the longest write: an encoder that nothing needs is closed by then
_BESIDE_A_PICTURE = 1024 * 1024  # bytes of a search
ConnectShard = Callable[[Place], ShardCall]
TellNews = Callable[[str], None]
"""Tells the shards of an index that something of it was written."""
ConnectRerankers = Callable[[VisualIndex], Rerankers]


@dataclass(frozen=True)
class Ways:
    """How a gateway reaches what runs elsewhere; `connect` None finds the shards by their leases."""

    connect: ConnectShard | None
    rerankers: ConnectRerankers
    run_job: RunJob


@dataclass
class Startup:
    """Of a gateway that has its process to itself: why its parts could not be opened; None while nothing is wrong."""

    failure: Exception | None = None


STARTUP = Startup()
"""Of the process: Serve runs one gateway in each."""


class Gateway:
    """Serve's view of the gateway; the ASGI application does the work."""

    def __init__(self) -> None:
        """Runs before Serve starts the replica's HTTP server."""
        whole_answers.install()

    def check_health(self) -> None:
        """The process answers; a part that is missing shows in /readyz, and restarting the gateway would not mend it.

        Raises what kept it from starting: of an exception in the application's own start, Serve tells only that there
        was one.
        """
        if STARTUP.failure is not None:
            raise STARTUP.failure


def create_app(
    documents: list[dict[str, Any]],
    connect: ConnectShard | None = None,
    startup: Startup | None = None,
    run_job: RunJob = run_in_ray,
    rerankers: ConnectRerankers | None = None,
) -> FastAPI:
    """The ASGI application for a list of VisualIndex documents; its lifespan opens and closes all parts.

    `connect(place)` gives the way to ask a shard: over the network unless a caller has the shards in its process, and
    `rerankers(resource)` likewise. `run_job` carries background jobs out. A failure to open a part is raised, or noted
    in `startup` where one is given.
    """
    resources = read_specs(documents)
    app = FastAPI(
        title="VisualIndex",
        version=__version__,
        description="Visual search: a picture in, the items that look like it out.",
        lifespan=_lifespan(resources, Ways(connect, rerankers or _remote_rerankers, run_job), startup),
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    for module in (
        searching,
        feedback,
        batches,
        images,
        thumbnails,
        internal,
        generations,
        events,
        checks,
        schedules,
        reindexing,
        health,
        metrics,
    ):
        app.include_router(module.router)
    openapi.install(app, _BODIES)
    pages.install(app)
    max_body = max(r.spec.limits.request_bytes for r in resources)
    app.add_middleware(
        Admission,
        limit=max(r.spec.gateway.max_concurrent_requests for r in resources),
        max_body=max_body,
        max_search_body=max(r.spec.limits.image_bytes for r in resources) + _BESIDE_A_PICTURE,
        max_bytes=max_body * _BODIES_IN_FLIGHT,
    )
    app.add_middleware(Origins)
    app.add_middleware(Observed)
    app.add_middleware(HeadAsGet)
    app.add_middleware(AsFolder)
    return app


def _lifespan(resources: list[VisualIndex], ways: Ways, startup: Startup | None) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                runtime = await Runtime.from_env()
                app.state.service = await open_service(resources, runtime, ways, stack)
            except Exception as error:
                if startup is None:
                    raise
                logger.exception("the gateway cannot start")
                startup.failure = error
            if startup is not None:
                settle()
            yield

    return lifespan


async def open_service(
    resources: list[VisualIndex],
    runtime: Runtime,
    ways: Ways,
    stack: AsyncExitStack,
) -> Service:
    """Open every part of a gateway; `stack` closes them in reverse order."""
    connections = max(r.spec.postgres.max_connections for r in resources)
    opening = partial(
        Catalog.open,
        runtime.credentials.dsn,
        max_connections=connections,
        application_name="visualindex-gateway",
    )
    catalog = await once_there("the database", opening)
    stack.push_async_callback(catalog.close)
    metrics = Metrics()
    log = SearchLog(catalog.log_searches, metrics.search_log_dropped.inc)
    log.start()
    stack.push_async_callback(log.close)
    secret = await catalog.service_secret(secrets.token_bytes)
    connect = ways.connect
    tell: TellNews = _nobody
    if connect is None:
        directory = await _open_directory(catalog, secret, stack)
        connect, tell = directory.connect, directory.tell_news
    active = ActiveGenerations(catalog.searchable_generations, [r.name for r in resources])
    indexes = {
        r.name: await _open_index(r, runtime, catalog, active, connect, tell, ways, metrics, stack)
        for r in resources
    }
    await once_there("the database", active.start)
    stack.push_async_callback(active.close)
    maintenance = Maintenance(catalog, list(indexes.values()), metrics)
    maintenance.start()
    stack.push_async_callback(maintenance.close)
    jobs = BackgroundJobs(catalog, list(indexes.values()), ways.run_job)
    jobs.start()
    stack.push_async_callback(jobs.close)
    return Service(indexes, catalog, Authenticator(catalog.authenticate), log, metrics, secret)


async def _open_directory(catalog: Catalog, secret: bytes, stack: AsyncExitStack) -> ShardDirectory:
    directory = ShardDirectory(catalog.replica_addresses, link_key(secret))
    directory.start()
    stack.push_async_callback(directory.close)
    return directory


def _nobody(_: str) -> None:
    """Shards in the gateway's own process look by themselves."""


async def _open_index(
    resource: VisualIndex,
    runtime: Runtime,
    catalog: Catalog,
    active: ActiveGenerations,
    connect: ConnectShard,
    tell: TellNews,
    ways: Ways,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> IndexService:
    spec = resource.spec
    workers = _decode_workers(spec, runtime)
    pool = DecodePool(workers, spec.limits)
    await pool.start()
    stack.push_async_callback(pool.close)
    store = open_store(
        spec.storage, default_folder=runtime.state_dir / "objects", credentials=runtime.credentials
    )
    stack.push_async_callback(store.close)
    thumbs = Thumbnails(resource.name, store, pool, at_once=max(1, workers // 2))
    stack.push_async_callback(thumbs.close)
    fetcher = SafeFetcher(spec.fetch, spec.limits)
    stack.push_async_callback(fetcher.close)
    sources = Places(spec, runtime.credentials)
    stack.push_async_callback(sources.close)
    count = spec.index.shards
    records = Records(partial(catalog.get_images, resource.name), spec.gateway.record_cache)
    ahead = ReadAhead(resource.name, partial(catalog.list_images, resource.name), records)
    ahead.start()
    stack.push_async_callback(ahead.close)
    pictures = StoredPictures(pool, records, thumbs, spec.storage.thumbnail_sizes[1])
    reranking = partial(_reranking, catalog, ways, pictures)
    encoders, record = await _open_encoders(resource, runtime, catalog, pool, reranking)
    stack.push_async_callback(encoders.close)
    places = [Place(resource.name, number, count, record.first_fingerprint) for number in range(count)]
    shards = Fanout([connect(place) for place in places])
    shadowing = Shadowing(catalog, resource.name, shards, partial(metrics.shadowed, resource.name))
    shadowing.start()
    stack.push_async_callback(shadowing.close)
    return IndexService(
        resource=runtime.placed(resource),
        open_access=runtime.open_access(resource),
        catalog=catalog,
        generations=active,
        encoders=encoders,
        store=store,
        fetcher=fetcher,
        records=records,
        thumbnails=thumbs,
        places=sources,
        shards=shards,
        shadowing=shadowing,
        tell_news=partial(tell, resource.name),
    )


def _remote_rerankers(resource: VisualIndex) -> Rerankers:
    return RemoteRerankers(serve.get_deployment_handle(RERANKER, index_application(resource.name)))


def _reranking(
    catalog: Catalog, ways: Ways, pictures: StoredPictures, resource: VisualIndex, features: str | None
) -> Reranking:
    return Reranking(
        resource.spec.rerank,
        features,
        ways.rerankers(resource) if features is not None else None,
        partial(catalog.rerank_profile, resource.name),
        pictures,
    )


async def _open_encoders(
    resource: VisualIndex,
    runtime: Runtime,
    catalog: Catalog,
    pool: DecodePool,
    reranking: Callable[[VisualIndex, str | None], Reranking],
) -> tuple[HeldEncoders, IndexRecord]:
    """The encoder that the spec names and those that the index is served with besides; with the index as it is searched."""
    own = await open_in_use(resource, runtime, pool, reranking)

    async def open_other(settings: Mapping[str, Any]) -> EncoderInUse:
        other = with_settings(resource, settings)
        return await open_in_use(other, runtime, pool, reranking, patiently=False)

    quiet_s = resource.spec.limits.write_timeout_ms * _QUIET_WRITES / 1000
    settings = encoder_settings(resource.spec)
    encoders = HeldEncoders(catalog, resource.name, own, settings, open_other, quiet_s=quiet_s)
    return encoders, await once_there("the database", encoders.start)


def _decode_workers(spec: Spec, runtime: Runtime) -> int:
    """Decoding processes of a gateway: on a machine of its own, one per two cores where the spec leaves it open."""
    if runtime.mode == "cluster":
        return decode_workers(spec)
    return spec.gateway.decode_workers or max(1, cores() // 2)
