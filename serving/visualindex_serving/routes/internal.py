"""POST /internal/embedding and /internal/index: for pipelines of the operator's own, with the admin scope."""

from typing import Any

from fastapi import APIRouter, Request

from visualindex.api.images import BatchResult, EmbeddingResponse, ImageRequest, ImageWritten
from visualindex.api.search import ApiModel, Box, IndexName
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.bodies import is_multipart, read_form, read_json, request_part, upload_of, validate
from visualindex_serving.deadlines import deadline_in, monotonic
from visualindex_serving.ingest import write_batch
from visualindex_serving.routes.images import create, incoming_of
from visualindex_serving.service import Service

router = APIRouter(tags=["internal"], prefix="/internal")


class EmbeddingRequest(ApiModel):
    """A picture by address; in multipart requests the `image` part replaces `image_url`."""

    index: IndexName | None = None
    image_url: str | None = None
    box: Box | None = None


class IndexRequest(ApiModel):
    """A list of images by address."""

    index: IndexName | None = None
    images: list[ImageRequest]


@router.post("/embedding")
async def embed(request: Request) -> EmbeddingResponse:
    """The vector of a picture, without storing anything."""
    service: Service = request.app.state.service
    upload = None
    if is_multipart(request):
        form = await read_form(request)
        upload = upload_of(form)
        asked = validate(EmbeddingRequest, request_part(form))
    else:
        asked = validate(EmbeddingRequest, await read_json(request))
    index, _ = await service.authorize(request, "admin", asked.index)
    if (upload is None) == (asked.image_url is None):
        raise ProblemError(ProblemType.INVALID_REQUEST, "/image: send the picture or its image_url, not both")
    deadline = deadline_in(index.resource.spec.limits.search_timeout_ms)
    data = (
        upload.data
        if upload
        else (await index.fetcher.fetch(str(asked.image_url), deadline=monotonic(deadline))).data
    )
    box = None if asked.box is None else asked.box.as_tuple()
    seen = await index.vision.vector(data, box, deadline)
    return EmbeddingResponse(
        vector=[float(x) for x in seen.vector], dimension=index.dimension, fingerprint=index.fingerprint
    )


@router.post("/index")
async def index_images(request: Request) -> ImageWritten | BatchResult:
    """Index one image (multipart or JSON) or a list of images by URL (JSON with `images`)."""
    service: Service = request.app.state.service
    upload = None
    if is_multipart(request):
        form = await read_form(request)
        upload = upload_of(form)
        document: dict[str, Any] = request_part(form)
    else:
        document = await read_json(request)
    if isinstance(document, dict) and "images" in document:
        return await _index_list(service, request, validate(IndexRequest, document))
    asked = validate(ImageRequest, document)
    index, _ = await service.authorize(request, "admin", asked.index)
    return await create(service, index, request, incoming_of(asked, upload.data if upload else None), asked)


async def _index_list(service: Service, request: Request, asked: IndexRequest) -> BatchResult:
    index, _ = await service.authorize(request, "admin", asked.index)
    limit = index.resource.spec.limits.batch_images
    if len(asked.images) > limit:
        detail = f"The list has {len(asked.images)} images; at most {limit} (limits.batchImages)."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms * 3)
    return await write_batch(index, [incoming_of(one, None) for one in asked.images], deadline)
