"""Images: create one or many, look at, change, list, erase."""

import uuid
from typing import Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from visualindex.api.images import (
    BatchResult,
    EmbeddingState,
    ImageChanged,
    ImageFields,
    ImageList,
    ImagePatch,
    ImageRequest,
    ImageView,
    ImageWritten,
)
from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import matches, parse_filter
from visualindex.identity import bucket_of, shard_of
from visualindex_serving.bodies import (
    Form,
    is_multipart,
    malformed,
    read_form,
    read_json,
    request_part,
    upload_of,
    validate,
)
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.index_service import IndexService
from visualindex_serving.ingest import Incoming, write_batch, write_image
from visualindex_serving.search import original
from visualindex_serving.service import Service, request_key
from visualindex_serving.thumbnails import thumbnail_paths

router = APIRouter(tags=["images"])

_BINARY = {"type": "string", "format": "binary"}


def _image_body() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ImageRequest"}
    example = {
        "key": "SKU-1042",
        "category": "Chairs",
        "image_url": "https://images.example.com/chair.jpg",
        "metadata": {"color": "red", "price": 129.0},
    }
    form = {
        "type": "object",
        "properties": {
            "image": {**_BINARY, "description": "The picture."},
            "request": {**schema, "description": "The image's fields as JSON; or give them as form fields."},
            "key": {"type": "string", "description": "As in the JSON request."},
            "category": {"type": "string", "description": "As in the JSON request."},
            "metadata": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": schema, "examples": {"by url": {"value": example}}},
            },
        }
    }


def _batch_body() -> dict[str, Any]:
    line = {"$ref": "#/components/schemas/ImageRequest"}
    form = {
        "type": "object",
        "properties": {
            "images": {"type": "array", "items": _BINARY, "description": "The pictures."},
            "request": {
                "type": "string",
                "description": 'JSON `{"index": …, "images": [fields of each picture, in order]}`.',
            },
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/x-ndjson": {"schema": {**line, "description": "One ImageRequest per line."}},
            },
        }
    }


@router.post("/api/images", status_code=201, openapi_extra=_image_body())
async def create_image(request: Request) -> ImageWritten:
    """Store an image. The answer comes once the object store and the database have it.

    The same `key` or `image_id` replaces the earlier image. `Idempotency-Key` makes a retry return the first answer.
    """
    service: Service = request.app.state.service
    if is_multipart(request):
        form = await read_form(request)
        upload = upload_of(form)
        asked = validate(ImageRequest, request_part(form))
    else:
        upload = None
        asked = validate(ImageRequest, await read_json(request))
    index, _ = await service.authorize(request, "write", asked.index)
    incoming = incoming_of(asked, None if upload is None else upload.data)
    return await create(service, index, request, incoming, asked)


async def create(
    service: Service, index: IndexService, request: Request, incoming: Incoming, asked: ImageRequest
) -> ImageWritten:
    """Write one image under the request's idempotency key, if it has one."""
    body = asked.model_dump_json().encode() + (incoming.data or b"")
    key = request_key(request, index.name, body)
    if key is not None:
        earlier = await service.catalog.find_idempotent(key.scope, key.key, key.digest)
        if earlier is not None:
            return ImageWritten.model_validate(earlier)
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    written = await write_image(index, incoming, deadline, key)
    service.metrics.images_written.inc(tags={"index": index.name})
    return written


def incoming_of(asked: ImageRequest, data: bytes | None) -> Incoming:
    """The image a request describes. Raises ProblemError unless it has exactly one picture."""
    if (data is None) == (asked.image_url is None):
        raise ProblemError(
            ProblemType.INVALID_REQUEST,
            "/image: send the picture as the part `image`, or its image_url, not both",
        )
    fields = ImageFields(**asked.model_dump(exclude={"index", "image_url"}))
    return Incoming(fields, data, asked.image_url)


@router.post("/api/images/batch", openapi_extra=_batch_body())
async def create_images(request: Request) -> BatchResult:
    """Store many images: multipart pictures, or NDJSON lines with their URLs. Each stands or falls by itself."""
    service: Service = request.app.state.service
    if is_multipart(request):
        name, incoming = _batch_of_form(await read_form(request))
    else:
        name, incoming = _batch_of_lines(await request.body())
    index, _ = await service.authorize(request, "write", name)
    limit = index.resource.spec.limits.batch_images
    if len(incoming) > limit:
        detail = f"The batch has {len(incoming)} images; at most {limit} (limits.batchImages)."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms * 3)
    result = await write_batch(index, incoming, deadline)
    if result.succeeded:
        service.metrics.images_written.inc(result.succeeded, tags={"index": index.name})
    return result


def _batch_of_form(form: Form) -> tuple[str | None, list[Incoming]]:
    document = request_part(form)
    unknown = set(document) - {"index", "images"}
    if unknown:
        raise malformed(f"The batch request has unknown fields: {', '.join(sorted(unknown))}.")
    uploads = form.uploads("images")
    if not uploads:
        raise malformed("The form has no files named images.")
    described = document.get("images") or [{"key": upload.filename} for upload in uploads]
    if len(described) != len(uploads):
        raise malformed(f"The request describes {len(described)} images, the form has {len(uploads)}.")
    fields = [validate(ImageFields, d) for d in described]
    return document.get("index"), [Incoming(f, u.data) for f, u in zip(fields, uploads, strict=True)]


def _batch_of_lines(body: bytes) -> tuple[str | None, list[Incoming]]:
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise malformed("The body has no lines; send one JSON object per line.")
    asked = [validate(ImageRequest, _json_line(i, line)) for i, line in enumerate(lines, 1)]
    names = {a.index for a in asked}
    if len(names) > 1:
        raise malformed("All lines of a batch must name the same index.")
    return names.pop(), [incoming_of(a, None) for a in asked]


def _json_line(number: int, line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise malformed(f"Line {number} is not JSON: {exc}.") from exc


@router.get("/api/images")
async def list_images(
    request: Request,
    index: str | None = Query(default=None, description="The index; may be left out when there is only one."),
    category: str | None = Query(default=None, max_length=256, description="Only this category."),
    cursor: str | None = Query(default=None, max_length=512, description="`next_cursor` of the page before."),
    limit: int = Query(default=50, ge=1, le=500, description="Most images to return."),
) -> ImageList:
    """List images, newest first."""
    service: Service = request.app.state.service
    found, grant = await service.authorize(request, "search", index)
    _refuse_filtered(grant.filter)
    page = await service.catalog.list_images(found.name, cursor=cursor, limit=limit, category=category)
    return ImageList(images=[_view(found, r) for r in page.images], next_cursor=page.cursor)


def _refuse_filtered(mandatory: dict[str, Any] | None) -> None:
    if mandatory is not None:
        detail = (
            "This key only sees what its filter lets through, and lists are not filtered: search instead."
        )
        raise ProblemError(ProblemType.FORBIDDEN, detail)


@router.get("/api/images/{image_id}")
async def get_image(request: Request, image_id: uuid.UUID, index: str | None = None) -> ImageView:
    """One image with the state of its vector."""
    service: Service = request.app.state.service
    found, grant = await service.authorize(request, "search", index)
    record = await _visible(found, image_id, grant.filter)
    shard = shard_of(bucket_of(image_id), found.resource.spec.index.shards)
    indexed = await service.catalog.is_indexed(found.name, image_id, shard)
    state = EmbeddingState(
        state="indexed" if indexed else "stored", fingerprint=found.fingerprint, dimension=found.dimension
    )
    return _view(found, record).model_copy(update={"embedding": state})


async def _visible(index: IndexService, image_id: uuid.UUID, mandatory: dict[str, Any] | None) -> ImageRecord:
    record = await index.catalog.get_image(index.name, image_id)
    if mandatory is None:
        return record
    attributes = {"category": record.category, "metadata": record.metadata}
    if not matches(parse_filter(mandatory), attributes):
        raise _not_found(index, image_id)
    return record


def _not_found(index: IndexService, image_id: uuid.UUID) -> ProblemError:
    return ProblemError(ProblemType.IMAGE_NOT_FOUND, f"There is no image {image_id} in index {index.name}.")


@router.get("/api/images/{image_id}/content")
async def get_content(request: Request, image_id: uuid.UUID, index: str | None = None) -> Response:
    """The original bytes, exactly as they were uploaded."""
    service: Service = request.app.state.service
    found, grant = await service.authorize(request, "search", index)
    record = await _visible(found, image_id, grant.filter)
    data = await original(found, image_id)
    headers = {
        "Content-Disposition": "attachment",
        "ETag": f'"{record.content_digest.hex()}"',
        "Cache-Control": "private, no-cache",
    }
    return Response(data, media_type=record.media_type, headers=headers)


@router.patch("/api/images/{image_id}")
async def patch_image(
    request: Request, image_id: uuid.UUID, body: ImagePatch, index: str | None = None
) -> ImageChanged:
    """Change an image's fields; its picture stays."""
    service: Service = request.app.state.service
    found, _ = await service.authorize(request, "write", index)
    deadline = deadline_in(found.resource.spec.limits.write_timeout_ms)
    changes = body.model_dump(exclude_unset=True)
    changed = service.catalog.patch_image(
        found.name, image_id, **{**changes, "metadata": body.metadata or {}}
    )
    token = await within(deadline, "changing the image", changed)
    return ImageChanged(image_id=image_id, token=str(token))


@router.delete("/api/images/{image_id}")
async def delete_image(request: Request, image_id: uuid.UUID, index: str | None = None) -> ImageChanged:
    """Erase an image everywhere: database, object store and every shard."""
    service: Service = request.app.state.service
    found, _ = await service.authorize(request, "write", index)
    deadline = deadline_in(found.resource.spec.limits.write_timeout_ms)
    token = await within(deadline, "erasing the image", service.catalog.delete_image(found.name, image_id))
    if token is None:
        raise _not_found(found, image_id)
    return ImageChanged(image_id=image_id, token=str(token))


def _view(index: IndexService, record: ImageRecord) -> ImageView:
    digest = record.content_digest.hex()
    return ImageView(
        image_id=record.image_id,
        index=index.name,
        key=record.key,
        category=record.category,
        url=record.url,
        metadata=record.metadata,
        upload_time=record.upload_time,
        media_type=record.media_type,
        width=record.width,
        height=record.height,
        size_bytes=record.size_bytes,
        content_digest=digest,
        thumbnails=thumbnail_paths(index.name, digest, index.resource.spec.storage.thumbnail_sizes),
    )
