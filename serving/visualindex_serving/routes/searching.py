"""POST /api/search."""

import orjson
from fastapi import APIRouter, Request, Response

from visualindex.api.search import SearchRequest, SearchResponse
from visualindex.catalog import SearchLog
from visualindex.errors import ProblemType
from visualindex_serving import openapi
from visualindex_serving.bodies import read_body
from visualindex_serving.mounting import base_of
from visualindex_serving.plain_routes import PlainRoute
from visualindex_serving.search import Found, search
from visualindex_serving.search_body import read_search
from visualindex_serving.service import Service, service_of

router = APIRouter(tags=["search"], route_class=PlainRoute)

_QUERY_FIELDS = frozenset({"image_url", "image_id", "vector", "box", "fingerprint"})

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
    asked = read_search(body)
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
