"""The consistency of an index: check it, and read what the last check found."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from visualindex.api.checks import CheckRequest, CheckView
from visualindex.api.generations import JobView
from visualindex.api.search import IndexName
from visualindex.catalog import CHECK
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.routes.generations import job_view
from visualindex_serving.service import service_of

router = APIRouter(tags=["checks"], prefix="/api/indexes/{name}")

Name = Annotated[IndexName, Path(description="The index.")]

_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(CheckRequest),
            "examples": {"mend": {"value": {"repair": True}}},
        }
    },
)
_PROBLEMS = (ProblemType.INDEX_NOT_FOUND, ProblemType.NOT_FOUND)


@router.post("/check", status_code=202, openapi_extra=_BODY, responses=openapi.problem_responses(*_PROBLEMS))
async def post_check(request: Request, name: Name) -> JobView:
    """Compare database, object store, generations and replicas, in the background. A check under way is told instead."""
    index, _ = (await service_of(request).caller(request, "admin")).index(name)
    asked = (await read_body(request, form=False)).read(CheckRequest)
    job, _ = await index.catalog.request_job(index.name, CHECK, asked.model_dump(mode="json"))
    return job_view(job)


@router.get("/check", responses=openapi.problem_responses(*_PROBLEMS))
async def get_check(request: Request, name: Name) -> CheckView:
    """What the last check found."""
    index, _ = (await service_of(request).caller(request, "admin")).index(name)
    last = await index.catalog.last_check(index.name)
    if last is None:
        detail = f"index {index.name} was never checked: POST to /api/indexes/{index.name}/check"
        raise ProblemError(ProblemType.NOT_FOUND, detail)
    return CheckView(job_id=last.job_id, checked_at=last.checked_at, **last.report)
