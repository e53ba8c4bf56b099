"""The vector that a search looks with: given, stored, or encoded from a picture."""

import time
import uuid

from visualindex.api.search import SearchRequest
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import Grant
from visualindex_serving.deadlines import monotonic
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import Float32
from visualindex_serving.originals import read_original
from visualindex_serving.problems import invalid
from visualindex_serving.reranking import NO_LIKENESS, Likeness
from visualindex_serving.timings import Timings
from visualindex_serving.visibility import not_found, visible_image
from visualindex_serving.vision import normalised


async def query_vector(
    service: IndexService,
    request: SearchRequest,
    upload: bytes | None,
    grant: Grant,
    deadline: float,
    timings: Timings,
) -> tuple[Float32, Likeness]:
    """The normalised vector, float32 [d], and what reranking compares with. Raises ProblemError for what gives none."""
    query = request.query
    if (upload is None) == (query.source is None):
        raise invalid("/query", "give exactly one of an uploaded image, image_url, image_id or vector")
    if query.vector is not None:
        return _given_vector(service, query.vector, query.fingerprint), NO_LIKENESS
    if query.image_id is not None and query.box is None:
        vector = await _stored_vector(service, query.image_id, grant, timings)
        return vector, Likeness(image=query.image_id)
    data = upload if upload is not None else await _picture(service, request, grant, deadline, timings)
    box = None if query.box is None else query.box.as_tuple()
    wanted = service.reranking.kept and request.rerank is not False
    seen = await service.vision.vector(data, box, deadline, patches=wanted)
    timings.add("decode", seen.decode_ms)
    timings.add("encode", seen.encode_ms)
    return seen.vector, Likeness(seen.patches, data=data, box=box)


def _given_vector(service: IndexService, vector: list[float], fingerprint: str | None) -> Float32:
    if fingerprint is not None and fingerprint != service.fingerprint:
        detail = f"The vector's fingerprint is {fingerprint}, this index's encoder is {service.fingerprint}."
        raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
    if len(vector) != service.dimension:
        detail = f"The vector has {len(vector)} numbers, this index has {service.dimension}."
        raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
    try:
        return normalised(vector)
    except ValueError as exc:
        raise invalid("/query/vector", str(exc)) from exc


async def _stored_vector(
    service: IndexService, image_id: uuid.UUID, grant: Grant, timings: Timings
) -> Float32:
    start = time.perf_counter()
    if grant.filter is not None:
        await visible_image(service, image_id, grant.filter)
    vectors = await service.catalog.get_vectors(service.name, [image_id], service.fingerprint)
    timings.add("vector", (time.perf_counter() - start) * 1000)
    if image_id not in vectors:
        raise not_found(service, image_id)
    return normalised(vectors[image_id].tolist())


async def _picture(
    service: IndexService, request: SearchRequest, grant: Grant, deadline: float, timings: Timings
) -> bytes:
    start = time.perf_counter()
    query = request.query
    if query.image_url is not None:
        data = (await service.fetcher.fetch(query.image_url, deadline=monotonic(deadline))).data
    else:
        assert query.image_id is not None  # noqa: S101 - the source was checked
        data = await read_original(service, await visible_image(service, query.image_id, grant.filter))
    timings.add("fetch", (time.perf_counter() - start) * 1000)
    return data
