"""POST /api/feedback."""

import datetime as dt
import uuid
from typing import Any

from fastapi import APIRouter, Request

from visualindex.api.search import FeedbackAccepted, FeedbackEvent, FeedbackRequest
from visualindex.catalog import Feedback
from visualindex.errors import ProblemType
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.idempotency import event_ids
from visualindex_serving.problems import invalid
from visualindex_serving.service import service_of

router = APIRouter(tags=["search"])

_FUTURE = dt.timedelta(days=1)
_PAST = dt.timedelta(days=400)

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
