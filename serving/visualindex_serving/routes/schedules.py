"""The schedules of an index: when they are due, and what became of their times."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from visualindex.api.schedules import ScheduleView
from visualindex.api.search import IndexName
from visualindex.errors import ProblemType
from visualindex_serving import openapi
from visualindex_serving.schedules import schedule_views
from visualindex_serving.service import service_of

router = APIRouter(tags=["schedules"], prefix="/api/indexes/{name}")

Name = Annotated[IndexName, Path(description="The index.")]


@router.get("/schedules", responses=openapi.problem_responses(ProblemType.INDEX_NOT_FOUND))
async def list_schedules(request: Request, name: Name) -> list[ScheduleView]:
    """The schedules of `spec.reindex.schedules`, with their next times and what became of the last ones."""
    index, _ = (await service_of(request).caller(request, "admin")).index(name)
    return await schedule_views(index.catalog, index.resource)
