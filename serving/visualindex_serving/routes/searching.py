"""POST /api/search and POST /api/feedback."""

from typing import Any

from fastapi import APIRouter, Request, Response

from visualindex.api.search import FeedbackEvent, FeedbackRequest, SearchRequest, SearchResponse
from visualindex.catalog import Feedback, SearchLog
from visualindex_serving.bodies import (
    is_multipart,
    read_form,
    read_json,
    search_document,
    upload_of,
    validate,
)
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.search import Found, search
from visualindex_serving.service import Service

router = APIRouter(tags=["search"])

_EXAMPLES = {
    "by image id": {
        "value": {"query": {"image_id": "0f8fad5b-d9cb-569f-a165-70867728950e"}, "limit": 5},
    },
    "by url, filtered": {
        "value": {
            "query": {"image_url": "https://images.example.com/chair.jpg"},
            "filter": {"eq": {"category": "Chairs"}},
            "limit": 10,
        },
    },
    "next page": {"value": {"cursor": "djHgAAAA…", "limit": 20}},
}


def _search_body() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/SearchRequest"}
    form = {
        "type": "object",
        "properties": {
            "image": {"type": "string", "format": "binary", "description": "The picture to search with."},
            "request": {
                **schema,
                "description": "Everything else, as JSON; or give its fields as form fields.",
            },
            "limit": {"type": "integer", "description": "As in the JSON request."},
            "filter": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
            "box": {"type": "string", "description": "As `query.box`, JSON-encoded."},
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": schema, "examples": _EXAMPLES},
            },
        }
    }


@router.post("/api/search", openapi_extra=_search_body())
async def post_search(request: Request, response: Response) -> SearchResponse:
    """Find what looks like an uploaded picture, a URL's picture, an indexed image or a vector."""
    service: Service = request.app.state.service
    upload = None
    if is_multipart(request):
        form = await read_form(request)
        upload = upload_of(form)
        asked = validate(SearchRequest, search_document(form))
    else:
        asked = validate(SearchRequest, await read_json(request))
    index, grant = await service.authorize(request, "search", asked.index)
    found = await search(index, asked, None if upload is None else upload.data, grant)
    response.headers["Server-Timing"] = found.timings.header()
    _record(service, found, asked)
    return found.response


def _record(service: Service, found: Found, asked: SearchRequest) -> None:
    answer = found.response
    for step, milliseconds in found.timings.steps.items():
        service.metrics.step.observe(milliseconds, tags={"step": step})
    if not answer.complete:
        service.metrics.incomplete.inc(tags={"index": answer.index})
    if not service.indexes[answer.index].resource.spec.search_log.enabled:
        return
    service.search_log.offer(
        SearchLog(
            index=answer.index,
            query_id=answer.query_id,
            user_id=None if asked.user_id is None else service.pseudonym(asked.user_id),
            image_id=found.query_image,
            matched_ids=[hit.image_id for hit in answer.hits],
            took_ms=answer.took_ms,
            query_kind="cursor" if asked.cursor else asked.query.source or "upload",
            complete=answer.complete,
            filter=asked.filter,
        )
    )


@router.post("/api/feedback", status_code=202)
async def post_feedback(request: Request, body: FeedbackRequest) -> dict[str, int]:
    """Record what people did with the hits of a search."""
    service: Service = request.app.state.service
    index, _ = await service.authorize(request, "search", body.index)
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    events = [_feedback(index.name, event) for event in body.events]
    await within(deadline, "storing feedback", service.catalog.add_feedback(events))
    return {"accepted": len(body.events)}


def _feedback(index: str, event: FeedbackEvent) -> Feedback:
    timed: dict[str, Any] = {} if event.at is None else {"occurred_at": event.at}
    return Feedback(index, event.query_id, event.image_id, kind=event.event, position=event.position, **timed)
