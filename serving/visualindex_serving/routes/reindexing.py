"""Rebuilding an index from its originals: asked for, followed by its log, and what it had to set aside."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from visualindex.api.generations import JobLineView, JobView, QuarantineView, ReindexRequest
from visualindex.api.search import IndexName
from visualindex.catalog import REINDEX
from visualindex.errors import ProblemType
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.index_service import IndexService
from visualindex_serving.reindex_asked import reindex_parameters
from visualindex_serving.routes.generations import job_view
from visualindex_serving.service import service_of

router = APIRouter(tags=["jobs"], prefix="/api/indexes/{name}")

Name = Annotated[IndexName, Path(description="The index.")]
JobId = Annotated[uuid.UUID, Path(description="The job.")]
After = Annotated[int, Query(ge=0, description="Only what was told after the line of this number.")]

_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(ReindexRequest),
            "examples": {"serve it": {"value": {"activate": True}}},
        }
    },
)
_PROBLEMS = (ProblemType.INDEX_NOT_FOUND, ProblemType.NOT_FOUND, ProblemType.CONFLICT)


async def _admin(request: Request, name: str) -> IndexService:
    index, _ = (await service_of(request).caller(request, "admin")).index(name)
    return index


@router.post(
    "/reindex", status_code=202, openapi_extra=_BODY, responses=openapi.problem_responses(*_PROBLEMS)
)
async def post_reindex(request: Request, name: Name) -> JobView:
    """Make what images lack of vectors, patches and colours from their originals, then build a generation of all.

    In the background; while it is under way, that job is told, and activates what it builds if one of those who asked for it
    wants that. What is there already is not made again.
    """
    index = await _admin(request, name)
    asked = (await read_body(request, form=False)).read(ReindexRequest)
    parameters = reindex_parameters(index.resource.spec, activate=asked.activate)
    job, _ = await index.catalog.request_job(index.name, REINDEX, parameters)
    return job_view(job)


@router.get("/jobs/{job_id}/log", responses=openapi.problem_responses(*_PROBLEMS))
async def get_job_log(request: Request, name: Name, job_id: JobId, after: After = 0) -> list[JobLineView]:
    """What a job told of itself, the oldest first, at most 1,000 lines."""
    index = await _admin(request, name)
    lines = await index.catalog.job_log(index.name, job_id, after)
    return [JobLineView(number=one.number, told_at=one.told_at, line=one.line) for one in lines]


@router.get("/quarantine", responses=openapi.problem_responses(*_PROBLEMS))
async def get_quarantine(request: Request, name: Name) -> list[QuarantineView]:
    """Images whose present content cannot be read or decoded, the latest first, at most 1,000."""
    index = await _admin(request, name)
    return [
        QuarantineView(
            image_id=one.image_id,
            reason=one.reason,
            detail=one.detail,
            job_id=one.job_id,
            noted_at=one.noted_at,
        )
        for one in await index.catalog.quarantined(index.name)
    ]
