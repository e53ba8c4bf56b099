"""POST /api/indexes/{name}/events: what a bucket tells of its objects."""

import logging
from typing import Annotated

from fastapi import APIRouter, Path, Request

from visualindex.api.ingesting import EventsTaken
from visualindex.api.search import IndexName
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.events import read_events
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.deadlines import deadline_in
from visualindex_serving.event_ingest import take_events
from visualindex_serving.service import service_of

logger = logging.getLogger(__name__)

router = APIRouter(tags=["events"], prefix="/api/indexes/{name}")

Name = Annotated[IndexName, Path(description="The index.")]

_EXAMPLE = {
    "Records": [
        {
            "eventName": "s3:ObjectCreated:Put",
            "s3": {
                "bucket": {"name": "shop"},
                "object": {"key": "chairs%2F1.jpg", "sequencer": "18A3F0C2B7D91E40"},
            },
        }
    ]
}
_BODY = openapi.body(
    {
        "application/json": {
            "schema": {"type": "object", "description": "A notification as S3 buckets send it."},
            "examples": {"an object was put": {"value": _EXAMPLE}},
        }
    }
)


@router.post(
    "/events",
    openapi_extra=_BODY,
    responses=openapi.problem_responses(*openapi.BODY_PROBLEMS, ProblemType.STORAGE_FULL),
)
async def post_events(request: Request, name: Name) -> EventsTaken:
    """Take in the objects that a bucket tells of, and delete the images of those that are gone.

    Events may come twice, late and in any order. 503 asks the bucket to send the notification again.
    """
    service = service_of(request)
    caller = await service.caller(request, "write")
    caller.index(name)  # refused before its body is read
    body = await read_body(request, form=False)
    index, grant = caller.index(name, body.size)
    if grant.filter is not None:
        detail = "The API key has a filter, and a bucket's objects are not held to one: use a key without."
        raise ProblemError(ProblemType.FORBIDDEN, detail)
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    taken = await take_events(index, read_events(body.document), deadline)
    stored = sum(event.outcome == "stored" for event in taken)
    if stored:
        service.metrics.images_written.inc(stored, tags={"index": index.name})
    for event in taken:
        if event.outcome == "refused":
            logger.warning("index %s: object %s is refused: %s", index.name, event.key, event.reason)
    return EventsTaken(events=taken)
