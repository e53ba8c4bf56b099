"""Health, readiness and the state of indexes."""

import asyncio
import logging
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Request, Response

from visualindex.api.health import Health, Readiness
from visualindex.api.images import IndexView
from visualindex.api.search import IndexName
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import openapi
from visualindex_serving.deadlines import deadline_in
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.index_state import index_view
from visualindex_serving.messages import ShardQuery
from visualindex_serving.service import Service, service_of

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

_PROBE_MS = 1000


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A part does not answer."}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Every index can be searched: all shards answer and the database does. 503 with the reasons otherwise."""
    service = service_of(request)
    names = list(service.indexes)
    outcomes = await asyncio.gather(_database(service), *(_probe(service.indexes[n]) for n in names))
    reasons = {n: o for n, o in zip(["database", *names], outcomes, strict=True) if o is not None}
    if reasons:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return Readiness(status="unready" if reasons else "ready", indexes=names, reasons=reasons)


async def _database(service: Service) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_MS / 1000):
            await service.catalog.ping()
    except (TimeoutError, ProblemError) as exc:
        logger.warning("the database does not answer: %s: %s", type(exc).__name__, exc)
        return "the database does not answer"
    return None


async def _probe(index: IndexService) -> str | None:
    try:
        merged = await _probed(index)
    except ProblemError as exc:
        logger.warning("index %s cannot be searched: %s", index.name, exc.detail)
        return "no shard answers"
    missing = [r.shard for r in merged.reports if r.answer is None]
    return f"shards {missing} do not answer" if missing else None


async def _probed(index: IndexService) -> Merged:
    """What the shards answer to a search that means nothing; again where one has let go of the generation."""
    for last in (False, True):
        pin = index.pinned().searched
        vector = np.zeros((1, pin.dimension), dtype=np.float32)
        vector[0, 0] = 1.0
        try:
            query = ShardQuery(vector, 1, None, (), deadline_in(_PROBE_MS), generation=pin.generation)
            return await index.shards.search(query)
        except ProblemError as problem:
            if last or problem.type is not ProblemType.CONFLICT:
                raise
            await index.generations.refresh()
    raise AssertionError("the second round returns or raises")


@router.get("/api/indexes", responses=openapi.problem_responses())
async def list_indexes(request: Request) -> list[IndexView]:
    """The indexes the caller may use."""
    caller = await service_of(request).caller(request, "search")
    return [await index_view(index, curves=False) for index in caller.indexes()]


@router.get("/api/indexes/{name}", responses=openapi.problem_responses())
async def get_index(
    request: Request, name: Annotated[IndexName, Path(description="The index.")]
) -> IndexView:
    """One index: its encoder, its size, the generation it serves with its recall, and its replicas."""
    index, _ = (await service_of(request).caller(request, "search")).index(name)
    return await index_view(index, curves=True)
