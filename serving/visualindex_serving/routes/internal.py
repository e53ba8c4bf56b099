"""POST /internal/embedding and /internal/index: for pipelines of the operator's own, with the admin scope."""

from fastapi import APIRouter, Request, Response

from visualindex.api.generations import JobView
from visualindex.api.images import (
    BatchRequest,
    BatchResult,
    EmbeddingRequest,
    EmbeddingResponse,
    ImageRequest,
    ImageWritten,
)
from visualindex.api.ingesting import IngestRequest
from visualindex.catalog import INGEST
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.opening import check_source
from visualindex_serving import openapi
from visualindex_serving.bodies import Body, read_body
from visualindex_serving.deadlines import deadline_in, monotonic, within
from visualindex_serving.index_service import IndexService
from visualindex_serving.originals import check_image_bytes
from visualindex_serving.problems import invalid
from visualindex_serving.routes.batches import items_of, store
from visualindex_serving.routes.generations import job_view
from visualindex_serving.routes.images import IMAGE_BODY, create, incoming_of
from visualindex_serving.service import service_of

router = APIRouter(tags=["internal"], prefix="/internal")

_EMBEDDING_BODY = openapi.body(
    {
        "multipart/form-data": openapi.form(EmbeddingRequest, {"image": openapi.IMAGE_PART}),
        "application/json": {
            "schema": openapi.ref(EmbeddingRequest),
            "examples": {"by url": {"value": {"image_url": "https://images.example.com/chair.jpg"}}},
        },
    }
)


@router.post(
    "/embedding",
    openapi_extra=_EMBEDDING_BODY,
    responses=openapi.problem_responses(*openapi.PICTURE_PROBLEMS),
)
async def embed(request: Request) -> EmbeddingResponse:
    """The vector of a picture, without storing anything."""
    service = service_of(request)
    caller = await service.caller(request, "admin")
    body = await read_body(request)
    asked = body.read(EmbeddingRequest)
    index = caller.index(asked.index, body.size)[0].pinned()
    deadline = deadline_in(index.resource.spec.limits.write_timeout_ms)
    data = await within(deadline, "fetching the picture", _picture(index, asked, body, deadline))
    box = None if asked.box is None else asked.box.as_tuple()
    seen = await within(deadline, "encoding the picture", index.vision.vector(data, box, deadline))
    return EmbeddingResponse(
        vector=seen.vector.tolist(), dimension=index.dimension, fingerprint=index.fingerprint
    )


async def _picture(index: IndexService, asked: EmbeddingRequest, body: Body, deadline: float) -> bytes:
    upload = body.upload()
    if (upload is None) == (asked.image_url is None):
        raise invalid("/image", "send the picture as the part `image`, or its image_url, and not both")
    if upload is not None:
        check_image_bytes(index, upload)
        return upload
    return (await index.fetcher.fetch(str(asked.image_url), deadline=monotonic(deadline))).data


@router.post(
    "/index",
    openapi_extra=IMAGE_BODY,
    response_model=ImageWritten | BatchResult | JobView,
    responses={
        202: {"model": JobView, "description": "A batch from the `sources` was started, or is under way."},
        201: {"model": ImageWritten, "description": "A new image was stored."},
        **openapi.problem_responses(*openapi.WRITE_PROBLEMS),
    },
)
async def index_images(request: Request, response: Response) -> ImageWritten | BatchResult | JobView:
    """Index one image, as `POST /api/images`; a JSON list of images by URL under `images`, as the batch call; or start a
    batch from the prefixes, manifests and archives under `sources`."""
    service = service_of(request)
    caller = await service.caller(request, "admin")
    body = await read_body(request)
    if "images" in body.document:
        many = body.read(BatchRequest)
        index, grant = caller.index(many.index, body.size)
        return await store(service, index, grant, request, items_of(index, many, body))
    if "sources" in body.document:
        batch = body.read(IngestRequest)
        index, _ = caller.index(batch.index, body.size)
        response.status_code = 202
        return await start_batch(index, batch)
    one = body.read(ImageRequest)
    index, grant = caller.index(one.index, body.size)
    written = await create(service, index, grant, request, incoming_of(one, body))
    response.status_code = 201 if written.created else 200
    return written


async def start_batch(index: IndexService, asked: IngestRequest) -> JobView:
    """Ask for the job; the same request again tells of the same job. Raises ProblemError CONFLICT while another is open."""
    for source in asked.sources:
        check_source(index.resource.spec, index.places, source)
    parameters = asked.model_dump(mode="json", exclude={"index"})
    job, _ = await index.catalog.request_job(index.name, INGEST, parameters)
    if dict(job.parameters) != parameters:
        detail = f"index {index.name} is taking in another batch (job {job.job_id}): wait for it, pause it or cancel it"
        raise ProblemError(ProblemType.CONFLICT, detail)
    return job_view(job)
