"""POST /api/images/batch: many images at once, each of which stands or falls by itself."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from visualindex.api.images import BatchRequest, BatchResult, ImageFields, ImageRequest
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import openapi
from visualindex_serving.access import Grant
from visualindex_serving.bodies import (
    FORM,
    JSON,
    NDJSON,
    Body,
    media_type,
    parse_json,
    read_body,
    read_lines,
    unsupported,
    validate,
)
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.idempotency import request_key
from visualindex_serving.index_service import IndexService
from visualindex_serving.ingest import Incoming, write_batch
from visualindex_serving.multipart import malformed
from visualindex_serving.problems import invalid
from visualindex_serving.routes.images import incoming_of
from visualindex_serving.service import Caller, Service, service_of

router = APIRouter(tags=["images"])

Item = Incoming | ProblemError
_DEADLINES = 3  # of a single write: a batch has that long

_FORM = {
    "images": {
        "type": "array",
        "items": openapi.BINARY,
        "description": "The pictures; a file's name is its key unless `request` describes it.",
    }
}
_LINES_EXAMPLE = (
    '{"key": "SKU-1", "image_url": "https://images.example.com/1.jpg"}\n'
    '{"key": "SKU-2", "image_url": "https://images.example.com/2.jpg"}\n'
)
_LIST_EXAMPLE = {"images": [{"key": "SKU-1", "image_url": "https://images.example.com/1.jpg"}]}
_BODY: dict[str, Any] = {
    **openapi.body(
        {
            "multipart/form-data": openapi.form(BatchRequest, _FORM),
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One ImageRequest per line."},
                "examples": {"two images": {"value": _LINES_EXAMPLE}},
            },
            "application/json": {
                "schema": openapi.ref(BatchRequest),
                "examples": {"one image": {"value": _LIST_EXAMPLE}},
            },
        }
    ),
    "parameters": [openapi.idempotency_key()],
}


@router.post(
    "/api/images/batch",
    openapi_extra=_BODY,
    responses=openapi.problem_responses(*openapi.WRITE_PROBLEMS),
)
async def create_images(request: Request) -> BatchResult:
    """Store many images: files of a form, or URLs as NDJSON or JSON. Each stands or falls by itself.

    `Idempotency-Key` makes a repeat return the first answer, unless nothing was stored then.
    """
    service = service_of(request)
    caller = await service.caller(request, "write")
    if media_type(request) in NDJSON:
        most = max(index.resource.spec.limits.batch_images for index in service.indexes.values())
        lines = await read_lines(request, most)
        _check_count(len(lines), most)
        return await store_lines(service, caller, request, lines)
    if media_type(request) not in (*JSON, FORM):
        raise unsupported(request, (FORM, NDJSON[0], *JSON))
    body = await read_body(request)
    asked = body.read(BatchRequest)
    index, grant = caller.index(asked.index, body.size)
    return await store(service, index, grant, request, items_of(index, asked, body))


async def store_lines(
    service: Service, caller: Caller, request: Request, lines: Sequence[bytes]
) -> BatchResult:
    """Store the images of NDJSON lines, which all mean the same index."""
    read = [_line(number, line) for number, line in enumerate(lines, 1)]
    names = {one.index for one in read if isinstance(one, ImageRequest)}
    if len(names) > 1:
        raise malformed("All lines of a batch must name the same index.")
    index, grant = caller.index(names.pop() if names else None, sum(map(len, lines)))
    items = [one if isinstance(one, ProblemError) else _of_url(one) for one in read]
    return await store(service, index, grant, request, items)


async def store(
    service: Service, index: IndexService, grant: Grant, request: Request, items: Sequence[Item]
) -> BatchResult:
    """Write a batch under the request's idempotency key, if it has one."""
    limits = index.resource.spec.limits
    _check_count(len(items), limits.batch_images)
    deadline = deadline_in(limits.write_timeout_ms * _DEADLINES)
    key = await request_key(request, index.name, "batch", [i for i in items if isinstance(i, Incoming)])
    if key is not None:
        earlier = service.catalog.find_idempotent(key.scope, key.key, key.digest)
        answer = await within(deadline, "looking for the idempotency key", earlier)
        if answer is not None:
            return BatchResult.model_validate(answer)
    result = await write_batch(index, items, deadline, grant.filter, key)
    if result.succeeded:
        service.metrics.images_written.inc(result.succeeded, tags={"index": index.name})
    return result


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        detail = f"The batch has more than {limit} images (limits.batchImages); send it in parts."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})


def items_of(index: IndexService, asked: BatchRequest, body: Body) -> list[Item]:
    """The images a batch describes; those that are described wrongly as their problems. Raises ProblemError for the rest."""
    strangers = [name for name, _ in body.files if name != "images"]
    if strangers:
        raise malformed(f"The form has a file named {strangers[0]}; this call takes files named images.")
    _check_count(max(len(body.files), len(asked.images or [])), index.resource.spec.limits.batch_images)
    if body.files:
        return _of_files(asked, body)
    if asked.images is None:
        raise invalid("/images", "is missing: list the images, or send them as files named images")
    return [_of_description(described) for described in asked.images]


def _of_files(asked: BatchRequest, body: Body) -> list[Item]:
    described = asked.images or [{"key": upload.filename or None} for _, upload in body.files]
    if len(described) != len(body.files):
        raise invalid("/images", f"describes {len(described)} images, the form has {len(body.files)} files")
    return [_of_file(d, upload.data) for d, (_, upload) in zip(described, body.files, strict=True)]


def _of_file(described: dict[str, Any], data: bytes) -> Item:
    try:
        return Incoming(validate(ImageFields, described), data)
    except ProblemError as problem:
        return problem


def _of_description(described: dict[str, Any]) -> Item:
    try:
        if "index" in described:
            raise invalid("/index", "belongs beside `images`, not into each of them")
        return incoming_of(validate(ImageRequest, described))
    except ProblemError as problem:
        return problem


def _line(number: int, line: bytes) -> ImageRequest | ProblemError:
    try:
        return validate(ImageRequest, parse_json(line, f"line {number}"))
    except ProblemError as problem:
        return problem


def _of_url(asked: ImageRequest) -> Item:
    try:
        return incoming_of(asked)
    except ProblemError as problem:
        return problem
