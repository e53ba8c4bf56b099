"""Health, readiness and the state of indexes."""

import asyncio
import logging
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from visualindex.api.images import IndexView, ReplicaView
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.deadlines import deadline_in
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import ShardQuery
from visualindex_serving.service import Service

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

_PROBE_MS = 1000


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, response: Response) -> dict[str, Any]:
    """Every index can be searched: all shards answer and the database does. 503 with the reasons otherwise."""
    service: Service = request.app.state.service
    names = list(service.indexes)
    outcomes = await asyncio.gather(_database(service), *(_probe(service.indexes[n]) for n in names))
    reasons = {n: o for n, o in zip(["database", *names], outcomes, strict=True) if o is not None}
    if reasons:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return {"status": "unready" if reasons else "ready", "indexes": names, "reasons": reasons}


async def _database(service: Service) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_MS / 1000):
            await service.catalog.ping()
    except (TimeoutError, ProblemError) as exc:
        return str(exc) or "no answer"
    return None


async def _probe(index: IndexService) -> str | None:
    vector = np.zeros((1, index.dimension), dtype=np.float32)
    vector[0, 0] = 1.0
    query = ShardQuery(vector, 1, None, (), deadline_in(_PROBE_MS))
    try:
        merged = await index.shards.search(query)
    except ProblemError as exc:
        return exc.detail
    missing = [r.shard for r in merged.reports if r.answer is None]
    return f"shards {missing} do not answer" if missing else None


@router.get("/api/indexes")
async def list_indexes(request: Request) -> list[IndexView]:
    """The indexes the caller may use."""
    service: Service = request.app.state.service
    return [await _view(service, index) for index in await service.authorize_any(request)]


@router.get("/api/indexes/{name}")
async def get_index(request: Request, name: str) -> IndexView:
    """One index: its encoder, its size and its replicas."""
    service: Service = request.app.state.service
    if name not in service.indexes:
        raise ProblemError(ProblemType.INDEX_NOT_FOUND, f"There is no index {name} in this service.")
    index, _ = await service.authorize(request, "search", name)
    return await _view(service, index)


async def _view(service: Service, index: IndexService) -> IndexView:
    encoder = index.resource.spec.encoder
    positions = await service.catalog.replica_positions(index.name)
    return IndexView(
        name=index.name,
        encoder=encoder.family if encoder.model is None else f"{encoder.family}/{encoder.model}",
        fingerprint=index.fingerprint,
        dimension=index.dimension,
        images=await service.catalog.count_images(index.name),
        replicas=[
            ReplicaView(shard=p.shard, replica=p.replica, rows=p.rows, seen_at=p.updated_at)
            for p in positions
        ],
    )
