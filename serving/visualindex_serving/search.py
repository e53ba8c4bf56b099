"""A search, from query to hits: vector, shards, metadata."""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visualindex.api.search import Hit, SearchRequest, SearchResponse
from visualindex.catalog import ImageRecord, Token
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import conjoin, parse_filter, to_json
from visualindex.objectstore import original_key
from visualindex_serving.access import Grant
from visualindex_serving.cursors import MAX_DEPTH, Cursor, decode_cursor
from visualindex_serving.deadlines import deadline_in, monotonic, remaining, within
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import Float32, ShardQuery
from visualindex_serving.thumbnails import thumbnail_paths
from visualindex_serving.vision import normalised

logger = logging.getLogger(__name__)

GENERATION = "live"
_CATCH_UP_SHARE = 0.8
_METADATA_SHARE = 0.7


@dataclass
class Timings:
    """Milliseconds by step, for `Server-Timing` and `explain`."""

    steps: dict[str, float] = field(default_factory=dict)

    def add(self, step: str, milliseconds: float) -> None:
        """Record a step."""
        self.steps[step] = self.steps.get(step, 0.0) + milliseconds

    def header(self) -> str:
        """The value of a `Server-Timing` header."""
        return ", ".join(f"{step};dur={ms:.2f}" for step, ms in self.steps.items())


@dataclass(frozen=True)
class Asked:
    """A search reduced to what the shards need; `after` continues an earlier page."""

    vector: Float32
    filter: dict[str, Any] | None
    exclude: tuple[uuid.UUID, ...]
    min_score: float | None
    after: Cursor | None


@dataclass(frozen=True)
class Found:
    """The answer with what the log and the headers need."""

    response: SearchResponse
    timings: Timings
    query_image: uuid.UUID | None


async def search(service: IndexService, request: SearchRequest, upload: bytes | None, grant: Grant) -> Found:
    """Run one search. Raises ProblemError for every refusal; no call outlives the deadline."""
    start = time.perf_counter()
    limits = service.resource.spec.limits
    _check_token(request.token)
    if request.limit > limits.search_limit:
        raise _invalid("/limit", f"at most {limits.search_limit} for this index (limits.searchLimit)")
    deadline = deadline_in(min(request.timeout_ms or limits.search_timeout_ms, limits.search_timeout_ms))
    timings = Timings()
    asked = await within(deadline, "preparing the query", _ask(service, request, upload, deadline, timings))
    merged = await _shards(service, request, asked, _effective(asked.filter, grant), deadline, timings)
    page = _page(merged, asked, request.limit)
    records, degraded = await _metadata(service, [image_id for image_id, _ in page.hits], deadline, timings)
    hits = [_hit(service, i, s, records) for i, s in page.hits if records is None or i in records]
    response = SearchResponse(
        query_id=uuid.uuid4(),
        index=service.name,
        hits=hits,
        complete=merged.complete,
        degraded=degraded,
        generation=GENERATION,
        fingerprint=service.fingerprint,
        next_cursor=_next(service, asked, page, request.limit),
        took_ms=round((time.perf_counter() - start) * 1000, 2),
        explain=_explain(merged, timings) if request.explain else None,
    )
    return Found(response, timings, request.query.image_id)


def _check_token(token: str | None) -> None:
    try:
        if token is not None:
            Token.parse(token)
    except ValueError as exc:
        raise _invalid(
            "/token", "is not a token of this service: send one back as a write returned it"
        ) from exc


async def _ask(
    service: IndexService, request: SearchRequest, upload: bytes | None, deadline: float, timings: Timings
) -> Asked:
    if request.cursor is not None:
        return _continue(service, request, upload)
    query = request.query
    exclude = (query.image_id,) if query.image_id is not None and not request.include_self else ()
    vector = await _vector(service, request, upload, deadline, timings)
    return Asked(vector, _checked_filter(request.filter), exclude, request.min_score, None)


def _continue(service: IndexService, request: SearchRequest, upload: bytes | None) -> Asked:
    if upload is not None or request.query.source is not None or request.filter is not None:
        raise _invalid(
            "/cursor", "a cursor carries its query and filter: send it alone, with at most a limit"
        )
    cursor = decode_cursor(str(request.cursor))
    if (cursor.index, cursor.fingerprint) != (service.name, service.fingerprint):
        raise _invalid("/cursor", "it belongs to another index or encoder; start the search again")
    if cursor.vector.shape != (service.dimension,):
        raise _invalid("/cursor", "it is damaged; start the search again")
    return Asked(cursor.vector, _checked_filter(cursor.filter), cursor.exclude, cursor.min_score, cursor)


async def _vector(
    service: IndexService, request: SearchRequest, upload: bytes | None, deadline: float, timings: Timings
) -> Float32:
    query = request.query
    if (upload is None) == (query.source is None):
        raise _invalid("/query", "give one of an uploaded image, image_url, image_id or vector")
    if query.vector is not None:
        return _given_vector(service, query.vector, query.fingerprint)
    if query.image_id is not None and query.box is None:
        return await _stored_vector(service, query.image_id, timings)
    data = upload if upload is not None else await _picture(service, request, deadline, timings)
    box = None if query.box is None else query.box.as_tuple()
    seen = await service.vision.vector(data, box, deadline)
    timings.add("decode", seen.decode_ms)
    timings.add("encode", seen.encode_ms)
    return seen.vector


def _given_vector(service: IndexService, vector: list[float], fingerprint: str | None) -> Float32:
    if fingerprint is not None and fingerprint != service.fingerprint:
        detail = f"The vector's fingerprint is {fingerprint}, this index's encoder is {service.fingerprint}."
        raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
    if len(vector) != service.dimension:
        raise _invalid("/query/vector", f"has {len(vector)} numbers, this index has {service.dimension}")
    try:
        return normalised(vector)
    except ValueError as exc:
        raise _invalid("/query/vector", str(exc)) from exc


async def _stored_vector(service: IndexService, image_id: uuid.UUID, timings: Timings) -> Float32:
    start = time.perf_counter()
    vectors = await service.catalog.get_vectors(service.name, [image_id], service.fingerprint)
    timings.add("vector", (time.perf_counter() - start) * 1000)
    if image_id not in vectors:
        raise ProblemError(
            ProblemType.IMAGE_NOT_FOUND, f"There is no image {image_id} in index {service.name}."
        )
    return normalised(vectors[image_id].tolist())


async def _picture(service: IndexService, request: SearchRequest, deadline: float, timings: Timings) -> bytes:
    start = time.perf_counter()
    query = request.query
    if query.image_url is not None:
        data = (await service.fetcher.fetch(query.image_url, deadline=monotonic(deadline))).data
    else:
        assert query.image_id is not None  # noqa: S101 - the source was checked
        data = await original(service, query.image_id)
    timings.add("fetch", (time.perf_counter() - start) * 1000)
    return data


async def original(service: IndexService, image_id: uuid.UUID) -> bytes:
    """The stored bytes of an image. Raises ProblemError IMAGE_NOT_FOUND."""
    record = await service.catalog.get_image(service.name, image_id)
    return await service.store.get(original_key(service.name, record.content_digest))


def _checked_filter(given: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else to_json(parse_filter(given))


def _effective(given: dict[str, Any] | None, grant: Grant) -> dict[str, Any] | None:
    """The request's filter and the key's, both of which every hit must match."""
    parts = [parse_filter(f) for f in (given, grant.filter) if f is not None]
    if not parts:
        return None
    return to_json(parts[0] if len(parts) == 1 else conjoin(parts[0], parts[1]))


async def _shards(
    service: IndexService,
    request: SearchRequest,
    asked: Asked,
    effective: dict[str, Any] | None,
    deadline: float,
    timings: Timings,
) -> Merged:
    start = time.perf_counter()
    depth = asked.after.depth if asked.after is not None else 0
    merged = await service.shards.search(
        ShardQuery(
            vectors=asked.vector[None, :],
            k=depth + request.limit + 1,
            filter=effective,
            exclude=tuple(image_id.bytes for image_id in asked.exclude),
            deadline=deadline,
            token=None if request.consistency == "eventual" else request.token,
            strong=request.consistency == "strong",
            wait_s=remaining(deadline) * _CATCH_UP_SHARE,
        )
    )
    timings.add("shards", (time.perf_counter() - start) * 1000)
    return merged


@dataclass(frozen=True)
class Page:
    """The hits of one page and whether more follow."""

    hits: list[tuple[uuid.UUID, float]]
    more: bool


def _page(merged: Merged, asked: Asked, limit: int) -> Page:
    count = int(merged.hits.counts[0])
    scores = merged.hits.scores[0, :count]
    ids = merged.hits.ids[0, :count]
    listed = [(uuid.UUID(bytes=i.tobytes()), float(s)) for i, s in zip(ids, scores, strict=True)]
    if asked.after is not None:
        last = (-np.float32(asked.after.last_score), asked.after.last_id.bytes)
        listed = [(i, s) for i, s in listed if (-np.float32(s), i.bytes) > last]
    if asked.min_score is not None:
        listed = [(i, s) for i, s in listed if s >= asked.min_score]
    return Page(listed[:limit], len(listed) > limit)


async def _metadata(
    service: IndexService, ids: list[uuid.UUID], deadline: float, timings: Timings
) -> tuple[Mapping[uuid.UUID, ImageRecord] | None, list[str]]:
    """The hits' records; None with a note when the database does not answer in time: ids and scores still help."""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(remaining(deadline) * _METADATA_SHARE):
            return await service.catalog.get_images(service.name, ids) if ids else {}, []
    except (TimeoutError, ProblemError) as exc:
        logger.warning("hits are answered without metadata: %s", exc)
        return None, ["metadata"]
    finally:
        timings.add("metadata", (time.perf_counter() - start) * 1000)


def _hit(
    service: IndexService, image_id: uuid.UUID, score: float, records: Mapping[uuid.UUID, ImageRecord] | None
) -> Hit:
    score = round(score, 6)
    if records is None:
        return Hit(image_id=image_id, score=score)
    record = records[image_id]
    sizes = service.resource.spec.storage.thumbnail_sizes
    return Hit(
        image_id=image_id,
        score=score,
        key=record.key,
        category=record.category,
        url=record.url,
        metadata=record.metadata,
        thumbnails=thumbnail_paths(service.name, record.content_digest.hex(), sizes),
    )


def _next(service: IndexService, asked: Asked, page: Page, limit: int) -> str | None:
    depth = (asked.after.depth if asked.after is not None else 0) + limit
    if not page.more or depth >= MAX_DEPTH:
        return None
    last_id, last_score = page.hits[-1]
    return Cursor(
        index=service.name,
        fingerprint=service.fingerprint,
        vector=asked.vector,
        filter=asked.filter,
        exclude=asked.exclude,
        min_score=asked.min_score,
        depth=depth,
        last_score=last_score,
        last_id=last_id,
    ).encode()


def _explain(merged: Merged, timings: Timings) -> dict[str, Any]:
    shards = [
        {
            "shard": r.shard,
            "answered": r.answer is not None,
            "replica": "" if r.answer is None else r.answer.replica,
            "rows": 0 if r.answer is None else r.answer.rows,
            "took_ms": round(r.took_ms, 2),
            "cpu_ms": 0.0 if r.answer is None else round(r.answer.cpu_ms, 2),
            "error": r.error,
        }
        for r in merged.reports
    ]
    return {"timings_ms": {k: round(v, 2) for k, v in timings.steps.items()}, "shards": shards}


def _invalid(pointer: str, message: str) -> ProblemError:
    return ProblemError(
        ProblemType.INVALID_REQUEST,
        f"{pointer}: {message}",
        extra={"errors": [{"pointer": pointer, "message": message}]},
    )
