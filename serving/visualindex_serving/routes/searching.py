"""POST /api/search and POST /api/feedback."""

import datetime as dt
import uuid
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from visualindex.api.search import (
    FeedbackAccepted,
    FeedbackEvent,
    FeedbackRequest,
    SearchRequest,
    SearchResponse,
)
from visualindex.catalog import Feedback, SearchLog
from visualindex.errors import ProblemType
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.idempotency import event_ids
from visualindex_serving.mounting import base_of
from visualindex_serving.problems import invalid
from visualindex_serving.search import Found, search
from visualindex_serving.service import Service, service_of

router = APIRouter(tags=["search"])

_QUERY_FIELDS = frozenset({"image_url", "image_id", "vector", "box", "fingerprint"})
_FUTURE = dt.timedelta(days=1)
_PAST = dt.timedelta(days=400)

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
_FORM = {
    "image": openapi.IMAGE_PART,
    "limit": {"type": "string", "description": "As in the JSON request."},
    "filter": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
    "box": {"type": "string", "description": "As `query.box`, JSON-encoded."},
    "facets": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
    "group_by": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
    "sort": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
}
_SEARCH_BODY = openapi.body(
    {
        "multipart/form-data": openapi.form(SearchRequest, _FORM),
        "application/json": {"schema": openapi.ref(SearchRequest), "examples": _EXAMPLES},
    }
)
_CLICK = {
    "events": [
        {
            "query_id": "7d1c2f0e-0b0a-4a35-9d5b-0c6b5d7a9e11",
            "image_id": "0f8fad5b-d9cb-569f-a165-70867728950e",
            "event": "click",
            "position": 0,
        }
    ]
}
_FEEDBACK_BODY = openapi.body(
    {"application/json": {"schema": openapi.ref(FeedbackRequest), "examples": {"a click": {"value": _CLICK}}}}
)


@router.post(
    "/api/search",
    response_model=SearchResponse,
    openapi_extra=_SEARCH_BODY,
    responses=openapi.problem_responses(
        *openapi.PICTURE_PROBLEMS,
        ProblemType.INVALID_FILTER,
        ProblemType.IMAGE_NOT_FOUND,
        ProblemType.NOT_ACCEPTABLE_YET,
        ProblemType.FINGERPRINT_MISMATCH,
    ),
)
async def post_search(request: Request) -> Response:
    """Find what looks like an uploaded picture, a URL's picture, an indexed image or a vector."""
    service = service_of(request)
    caller = await service.caller(request, "search")
    body = (await read_body(request)).gathered("query", _QUERY_FIELDS)
    asked = body.read(SearchRequest)
    index, grant = caller.index(asked.index, body.size)
    found = await search(index, asked, body.upload(), grant, base_of(request.scope))
    _record(service, found, asked)
    headers = {"Server-Timing": found.timings.header(), "Cache-Control": "no-store"}
    return Response(orjson.dumps(found.answer), media_type="application/json", headers=headers)


def _record(service: Service, found: Found, asked: SearchRequest) -> None:
    answer = found.answer
    for step, milliseconds in found.timings.steps.items():
        service.metrics.step.observe(milliseconds, tags={"step": step})
    if not answer["complete"]:
        service.metrics.incomplete.inc(tags={"index": answer["index"]})
    if not service.indexes[answer["index"]].resource.spec.search_log.enabled:
        return
    service.search_log.offer(
        SearchLog(
            index=answer["index"],
            query_id=answer["query_id"],
            user_id=None if asked.user_id is None else service.pseudonym(asked.user_id),
            image_id=asked.query.image_id,
            matched_ids=found.matched_ids,
            took_ms=answer["took_ms"],
            query_kind="cursor" if asked.cursor else asked.query.source or "upload",
            complete=answer["complete"],
            filter=asked.filter,
        )
    )


@router.post(
    "/api/feedback",
    status_code=202,
    openapi_extra={**_FEEDBACK_BODY, "parameters": [openapi.idempotency_key()]},
    responses=openapi.problem_responses(*openapi.BODY_PROBLEMS, ProblemType.STORAGE_FULL),
)
async def post_feedback(request: Request) -> FeedbackAccepted:
    """Record what people did with the hits of a search. A repeat under one `Idempotency-Key` is stored once."""
    service = service_of(request)
    caller = await service.caller(request, "search")
    body = await read_body(request, form=False)
    asked = body.read(FeedbackRequest)
    index, _ = caller.index(asked.index, body.size)
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    ids = event_ids(request, index.name, asked.events)
    events = [
        _feedback(index.name, place, event_id, event)
        for place, (event_id, event) in enumerate(zip(ids, asked.events, strict=True))
    ]
    await within(deadline, "storing feedback", service.catalog.add_feedback(events))
    return FeedbackAccepted(accepted=len(events))


def _feedback(index: str, place: int, event_id: uuid.UUID, event: FeedbackEvent) -> Feedback:
    timed: dict[str, Any] = {} if event.at is None else {"occurred_at": _moment(place, event.at)}
    return Feedback(
        index,
        event.query_id,
        event.image_id,
        kind=event.event,
        position=event.position,
        event_id=event_id,
        **timed,
    )


def _moment(place: int, at: dt.datetime) -> dt.datetime:
    """The event's time, UTC when it names no zone. Raises ProblemError INVALID_REQUEST when it is out of reach."""
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    now = dt.datetime.now(dt.UTC)
    if not now - _PAST <= at <= now + _FUTURE:
        raise invalid(f"/events/{place}/at", f"must lie within the past {_PAST.days} days")
    return at
