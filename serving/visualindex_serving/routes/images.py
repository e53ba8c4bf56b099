"""Images: create one, look at, change, list, erase."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from visualindex.api.images import (
    EmbeddingState,
    ImageChanged,
    ImageFields,
    ImageList,
    ImagePatch,
    ImageRequest,
    ImageView,
    ImageWritten,
)
from visualindex.api.search import ColourView, IndexName
from visualindex.catalog import ImageRecord, Token, merge_patch
from visualindex.errors import ProblemType
from visualindex.identity import bucket_of, shard_of
from visualindex.ingesting.fields import check_metadata
from visualindex_serving import openapi
from visualindex_serving.access import Grant
from visualindex_serving.bodies import MERGE_PATCH, Body, read_body
from visualindex_serving.caching import not_modified
from visualindex_serving.colours import shown_colours
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.idempotency import request_key
from visualindex_serving.index_service import IndexService
from visualindex_serving.ingest import Incoming, write_image
from visualindex_serving.mounting import base_of
from visualindex_serving.originals import read_original
from visualindex_serving.problems import invalid
from visualindex_serving.service import Service, service_of
from visualindex_serving.thumbnails import thumbnail_paths
from visualindex_serving.visibility import not_found, outside, passes, visible_image

router = APIRouter(tags=["images"])

IndexParameter = Annotated[
    IndexName | None, Query(description="The index; may be left out when there is only one.")
]
ImageId = Annotated[uuid.UUID, Path(description="The image's id.")]

_EXAMPLE = {
    "key": "SKU-1042",
    "category": "Chairs",
    "image_url": "https://images.example.com/chair.jpg",
    "metadata": {"color": "red", "price": 129.0},
}
_FORM = {
    "image": openapi.IMAGE_PART,
    "key": {"type": "string", "description": "As in the JSON request."},
    "category": {"type": "string", "description": "As in the JSON request."},
    "metadata": {"type": "string", "description": "As in the JSON request, JSON-encoded."},
}
IMAGE_BODY: dict[str, Any] = {
    **openapi.body(
        {
            "multipart/form-data": openapi.form(ImageRequest, _FORM),
            "application/json": {
                "schema": openapi.ref(ImageRequest),
                "examples": {"by url": {"value": _EXAMPLE}},
            },
        }
    ),
    "parameters": [openapi.idempotency_key()],
}
_PATCH_EXAMPLE = {"category": None, "metadata": {"price": 99.0, "discontinued": None}}
_PATCH_BODY = openapi.body(
    {
        media: {
            "schema": openapi.ref(ImagePatch),
            "examples": {"a new price, two fields removed": {"value": _PATCH_EXAMPLE}},
        }
        for media in MERGE_PATCH
    }
)


@router.post(
    "/api/images",
    status_code=201,
    openapi_extra=IMAGE_BODY,
    responses={
        200: {"model": ImageWritten, "description": "An earlier image of that id or key was replaced."},
        **openapi.problem_responses(*openapi.WRITE_PROBLEMS),
    },
)
async def create_image(request: Request, response: Response) -> ImageWritten:
    """Store an image. The answer comes once the object store and the database have it.

    201 for a new image; 200 when the same `key` or `image_id` replaced an earlier one. `Idempotency-Key` makes a
    repeat return the first answer.
    """
    service = service_of(request)
    caller = await service.caller(request, "write")
    body = await read_body(request)
    asked = body.read(ImageRequest)
    index, grant = caller.index(asked.index, body.size)
    written = await create(service, index, grant, request, incoming_of(asked, body))
    response.status_code = 201 if written.created else 200
    return written


async def create(
    service: Service, index: IndexService, grant: Grant, request: Request, incoming: Incoming
) -> ImageWritten:
    """Write one image under the request's idempotency key, if it has one."""
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    key = await request_key(request, index.name, "images", [incoming])
    if key is not None:
        earlier = service.catalog.find_idempotent(key.scope, key.key, key.digest)
        answer = await within(deadline, "looking for the idempotency key", earlier)
        if answer is not None:
            return ImageWritten.model_validate(answer)
    written = await write_image(index, incoming, deadline, grant.filter, key)
    service.metrics.images_written.inc(tags={"index": index.name})
    return written


def incoming_of(asked: ImageRequest, body: Body | None = None) -> Incoming:
    """The image a request describes. Raises ProblemError unless it has exactly one picture."""
    data = None if body is None else body.upload()
    if (data is None) == (asked.image_url is None):
        raise invalid("/image", "send the picture as the part `image`, or its image_url, and not both")
    fields = ImageFields(**asked.model_dump(exclude={"index", "image_url"}))
    return Incoming(fields, data, asked.image_url)


@router.get("/api/images", responses=openapi.problem_responses())
async def list_images(
    request: Request,
    index: IndexParameter = None,
    category: Annotated[str | None, Query(max_length=256, description="Only this category.")] = None,
    cursor: Annotated[
        str | None, Query(max_length=512, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most images to return.")] = 50,
) -> ImageList:
    """List images, newest first."""
    service = service_of(request)
    found, grant = (await service.caller(request, "search")).index(index)
    if grant.filter is not None:
        raise outside("A list also names images")
    if "\0" in (category or ""):
        return ImageList(images=[])
    listing = service.catalog.list_images(found.name, cursor=cursor, limit=limit, category=category)
    page = await within(_deadline(found), "listing images", listing)
    base = base_of(request.scope)
    return ImageList(images=[_view(found, r, base) for r in page.images], next_cursor=page.cursor)


@router.get("/api/images/{image_id}", responses=openapi.problem_responses(ProblemType.IMAGE_NOT_FOUND))
async def get_image(request: Request, image_id: ImageId, index: IndexParameter = None) -> ImageView:
    """One image with the state of its vector."""
    service = service_of(request)
    found, grant = (await service.caller(request, "search")).index(index)
    deadline = _deadline(found)
    record = await within(deadline, "reading the image", visible_image(found, image_id, grant.filter))
    shards = found.resource.spec.index.shards
    asking = service.catalog.is_indexed(found.name, image_id, shard_of(bucket_of(image_id), shards), shards)
    state = EmbeddingState(
        state="indexed" if await within(deadline, "reading the image's state", asking) else "stored",
        fingerprint=found.fingerprint,
        dimension=found.dimension,
    )
    return _view(found, record, base_of(request.scope)).model_copy(update={"embedding": state})


@router.get(
    "/api/images/{image_id}/content",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {"image/*": {"schema": openapi.BINARY}}},
        304: {"description": "The caller's copy, named by `If-None-Match`, is current."},
        **openapi.problem_responses(ProblemType.IMAGE_NOT_FOUND, ProblemType.NOT_FOUND),
    },
)
async def get_content(request: Request, image_id: ImageId, index: IndexParameter = None) -> Response:
    """The original bytes, exactly as they were uploaded. Never cached publicly: a delete takes it back."""
    service = service_of(request)
    found, grant = (await service.caller(request, "search")).index(index)
    deadline = _deadline(found)
    record = await within(deadline, "reading the image", visible_image(found, image_id, grant.filter))
    headers = {
        "Content-Disposition": "attachment",
        "ETag": f'"{record.content_digest.hex()}"',
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data = await within(deadline, "reading the picture", read_original(found, record))
    return Response(data, media_type=record.media_type, headers=headers)


@router.patch(
    "/api/images/{image_id}",
    openapi_extra=_PATCH_BODY,
    responses=openapi.problem_responses(
        *openapi.BODY_PROBLEMS, ProblemType.IMAGE_NOT_FOUND, ProblemType.STORAGE_FULL
    ),
)
async def patch_image(request: Request, image_id: ImageId, index: IndexParameter = None) -> ImageChanged:
    """Change an image's fields by a JSON merge patch; its picture stays."""
    service = service_of(request)
    caller = await service.caller(request, "write")
    caller.index(index)  # refused before its body is read
    body = await read_body(request, json=MERGE_PATCH, form=False)
    found, grant = caller.index(index, body.size)
    patch = body.read(ImagePatch)
    changing = _change(service, found, grant, image_id, patch)
    token = await within(_deadline(found), "changing the image", changing)
    found.tell_news()
    return ImageChanged(image_id=image_id, token=str(token))


async def _change(
    service: Service, index: IndexService, grant: Grant, image_id: uuid.UUID, patch: ImagePatch
) -> Token:
    record = await visible_image(index, image_id, grant.filter)
    changes = patch.model_dump(exclude_unset=True)
    if "metadata" in changes and patch.metadata is None:
        changes["metadata"] = dict.fromkeys(record.metadata)
    metadata = merge_patch(record.metadata, changes.get("metadata", {}))
    check_metadata(index.resource.spec, metadata, record.metadata)
    category = changes.get("category", record.category)
    if not passes(grant.filter, key=record.key, category=category, metadata=metadata):
        raise outside("The changed image would lie")
    return await service.catalog.patch_image(index.name, image_id, **changes)


@router.delete(
    "/api/images/{image_id}",
    responses=openapi.problem_responses(ProblemType.IMAGE_NOT_FOUND, ProblemType.STORAGE_FULL),
)
async def delete_image(request: Request, image_id: ImageId, index: IndexParameter = None) -> ImageChanged:
    """Erase an image everywhere: database, object store and every shard."""
    service = service_of(request)
    found, grant = (await service.caller(request, "write")).index(index)
    deadline = _deadline(found)
    if grant.filter is not None:
        await within(deadline, "reading the image", visible_image(found, image_id, grant.filter))
    token = await within(deadline, "erasing the image", service.catalog.delete_image(found.name, image_id))
    if token is None:
        raise not_found(found, image_id)
    found.tell_news()
    return ImageChanged(image_id=image_id, token=str(token))


def _deadline(index: IndexService) -> float:
    return deadline_in(index.resource.spec.limits.write_timeout_ms)


def _view(index: IndexService, record: ImageRecord, base: str) -> ImageView:
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
        thumbnails=thumbnail_paths(index.name, digest, index.resource.spec.storage.thumbnail_sizes, base),
        colours=[ColourView(**colour) for colour in shown_colours(record.colours)],
    )
