"""A search, from query to hits: vector, shards, metadata."""

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visualindex import catalog
from visualindex.api.search import SearchRequest
from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.gate.measures import K
from visualindex_serving.access import Grant
from visualindex_serving.answering import explained, facets_of, hit_of, in_scope
from visualindex_serving.asked import Asked, ask, checked, effective_filter
from visualindex_serving.cursors import decode_cursor
from visualindex_serving.deadlines import deadline_in, remaining, within
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import ShardQuery
from visualindex_serving.paging import next_cursor, page_of
from visualindex_serving.reranking import Wish
from visualindex_serving.result_page import Page
from visualindex_serving.shadowing import Seen
from visualindex_serving.timings import Timings
from visualindex_serving.visibility import visible

logger = logging.getLogger(__name__)

_SHARDS_SHARE = 0.8  # of what is left of the deadline: the rest fetches metadata when a shard never answers
_CATCH_UP_SHARE = 0.8
_METADATA_SHARE = 0.9
_LOOKS = 3


@dataclass(frozen=True)
class Found:
    """The answer (the fields of SearchResponse) with what the log and the headers need."""

    answer: dict[str, Any]
    matched_ids: list[uuid.UUID]
    timings: Timings


async def search(
    service: IndexService, request: SearchRequest, upload: bytes | None, grant: Grant, base: str = ""
) -> Found:
    """Run one search; `base` stands before the paths in its answer.

    Raises ProblemError for every refusal; no call outlives the deadline.
    """
    start = time.perf_counter()
    limits = service.resource.spec.limits
    deadline = deadline_in(min(request.timeout_ms or limits.search_timeout_ms, limits.search_timeout_ms))
    request = checked(service, request, upload)
    timings = Timings()
    for last in (False, True):
        try:
            return await _found(
                _pin(service, request), request, upload, grant, base, start, deadline, timings
            )
        except _EncoderSwitchedError:
            if last:
                raise
    raise AssertionError("the second round returns or raises")


class _EncoderSwitchedError(ProblemError):
    """The generation that a search was pinned to is gone, and what takes its place holds another encoder's vectors."""


def _pin(service: IndexService, request: SearchRequest) -> IndexService:
    """The index pinned for this search: one generation and the encoder of its vectors, whatever is activated meanwhile.

    A search that brings its vector, or continues another, goes on in the space of that vector as long as a generation of
    it is loaded.
    """
    if request.cursor is not None:
        return service.pinned(decode_cursor(request.cursor).fingerprint)
    return service.pinned(request.query.fingerprint if request.query.vector is not None else None)


async def _found(
    service: IndexService,
    request: SearchRequest,
    upload: bytes | None,
    grant: Grant,
    base: str,
    start: float,
    deadline: float,
    timings: Timings,
) -> Found:
    """One search of what the index is pinned to. Raises _EncoderSwitchedError when that is gone."""
    asking = ask(service, request, upload, grant, deadline, timings)
    waits = request.query.vector is None and request.cursor is None
    asked = await (within(deadline, "preparing the query", asking) if waits else asking)
    wish = await _wish(service, request, asked)
    most = max(request.limit, wish.candidates)
    effective = effective_filter(asked.filter, grant)
    merged, found = await _look(service, request, asked, effective, most, deadline, timings)
    if request.require_complete and not merged.complete:
        raise _incomplete(merged)
    page = await _reranked(service, wish, asked, found, request.limit, deadline, timings)
    records, degraded = await _metadata(service, page, merged.age_s, grant, deadline, timings)
    if grant.filter is not None:
        records = {i: record for i, record in records.items() if visible(grant.filter, record)}
    hits = [
        hit
        for image_id, score, by, record in in_scope(asked.scope, page, records)
        for hit in hit_of(service, image_id, score, by, record, base, whole=not degraded)
    ]
    query_id = uuid.uuid4()
    answer = {
        "query_id": query_id,
        "index": service.name,
        "hits": hits,
        "complete": merged.complete,
        "degraded": degraded,
        "reranked": bool(page.reranked),
        "rerank_reason": page.reason,
        "generation": merged.generation,
        "fingerprint": service.fingerprint,
        "missing_shards": merged.missing,
        "full_shards": merged.full,
        "facets": facets_of(merged, asked.facets) if asked.facets else None,
        "next_cursor": next_cursor(service, asked, page),
        "took_ms": round((time.perf_counter() - start) * 1000, 2),
        "explain": explained(merged, timings) if request.explain else None,
    }
    _show(service, request, asked, effective, query_id)
    return Found(answer, [hit["image_id"] for hit in hits], timings)


def _show(
    service: IndexService,
    request: SearchRequest,
    asked: Asked,
    effective: dict[str, Any] | None,
    query_id: uuid.UUID,
) -> None:
    """Offer a search to the shadow, if there is one: a first page, by nearness alone."""
    shadowing = service.shadowing
    ordered = asked.after is not None or asked.sort is not None or asked.group is not None
    if shadowing is None or ordered or not shadowing.wants():
        return
    exclude = tuple(image_id.bytes for image_id in asked.exclude)
    query = ShardQuery(asked.vector[None, :], K, effective, exclude, deadline=0.0)
    shadowing.take(Seen(query, query_id, request.query.image_id))


async def _wish(service: IndexService, request: SearchRequest, asked: Asked) -> Wish:
    """A first page decides; the pages after it show what it left, and then go on as the first stage has it."""
    if asked.after is not None or asked.sort is not None:
        return Wish()
    return await service.reranking.wish(request.rerank, asked.likeness)


async def _look(
    service: IndexService,
    request: SearchRequest,
    asked: Asked,
    effective: dict[str, Any] | None,
    limit: int,
    deadline: float,
    timings: Timings,
) -> tuple[Merged, Page]:
    """Ask the shards; deeper when images that came since the page before push the next page out of reach."""
    # In the order of a field, the shards begin behind the last hit themselves.
    k = limit + 1 if asked.sort is not None else asked.depth + limit + 1
    for look in range(_LOOKS):
        merged = await _pinned(service, request, asked, effective, k, deadline, timings)
        page = page_of(merged, asked, limit, k)
        if not page.more or len(page.ids) == limit or look == _LOOKS - 1:
            break
        k += 2 * limit
    return merged, page


async def _pinned(
    service: IndexService,
    request: SearchRequest,
    asked: Asked,
    effective: dict[str, Any] | None,
    k: int,
    deadline: float,
    timings: Timings,
) -> Merged:
    """Ask every shard for the same generation; once more where one has let go of it since this gateway last looked."""
    arguments = (request, asked, effective, k, deadline, timings)
    try:
        return await _shards(service, *arguments)
    except ProblemError as problem:
        if problem.type is not ProblemType.CONFLICT:
            raise
        await service.generations.refresh()
        again = service.pinned(service.fingerprint)
        if again.fingerprint != service.fingerprint:
            detail = "The index was given another encoder while this search ran; start it again."
            raise _EncoderSwitchedError(ProblemType.UNAVAILABLE, detail, retry_after_s=1) from problem
        return await _shards(again, *arguments)


async def _shards(
    service: IndexService,
    request: SearchRequest,
    asked: Asked,
    effective: dict[str, Any] | None,
    k: int,
    deadline: float,
    timings: Timings,
) -> Merged:
    start = time.perf_counter()
    until = time.time() + remaining(deadline) * _SHARDS_SHARE
    merged = await service.shards.search(
        ShardQuery(
            vectors=asked.vector[None, :],
            k=k,
            filter=effective,
            exclude=tuple(image_id.bytes for image_id in asked.exclude),
            deadline=until,
            token=None if request.consistency == "eventual" else request.token,
            strong=request.consistency == "strong",
            wait_s=remaining(until) * _CATCH_UP_SHARE,
            generation=service.searched.generation,
            min_score=asked.min_score if asked.sort is not None else None,
            facets=tuple(set(asked.facets.values())),
            group=asked.group,
            sort=asked.sort,
            explain=request.explain,
        )
    )
    timings.add("shards", (time.perf_counter() - start) * 1000)
    return merged


async def _reranked(
    service: IndexService, wish: Wish, asked: Asked, page: Page, limit: int, deadline: float, timings: Timings
) -> Page:
    if asked.after is not None:
        return page
    start = time.perf_counter()
    page = await service.reranking.reordered(wish, asked.likeness, page, limit, deadline)
    if wish.candidates:
        timings.add("rerank", (time.perf_counter() - start) * 1000)
    return page


async def _metadata(
    service: IndexService, page: Page, age_s: float, grant: Grant, deadline: float, timings: Timings
) -> tuple[Mapping[uuid.UUID, ImageRecord], list[str]]:
    """The hits' records; those that are remembered, with a note, when the database does not answer in time.

    A key's filter holds for what an image is now, so what was remembered of it will not do.
    """
    start = time.perf_counter()
    try:
        if not page.ids:
            return {}, []
        if grant.filter is None:
            known = service.records.known(page.ids, page.versions, age_s)
            if len(known) == len(page.ids):
                return known, []
            reading = service.records.of(page.ids, page.versions, age_s)
        else:
            reading = service.catalog.get_images(service.name, page.ids)
        with catalog.within(remaining(deadline) * _METADATA_SHARE):
            return await reading, []
    except ProblemError as exc:
        logger.warning("hits are answered without the metadata that is not remembered: %s", exc)
        known = service.records.known(page.ids, page.versions) if grant.filter is None else {}
        return known, ["metadata"]
    finally:
        timings.add("metadata", (time.perf_counter() - start) * 1000)


def _incomplete(merged: Merged) -> ProblemError:
    missing, full = (", ".join(map(str, shards)) for shards in (merged.missing, merged.full))
    detail = f"Shards {missing} of this index did not answer in time, and the search demands all; try again."
    if not missing:
        detail = (
            f"Shards {full} of this index are full and leave images out, and the search demands all: raise "
            "index.memoryPerShard, add shards or delete images."
        )
    extra = {"missing_shards": merged.missing, "full_shards": merged.full}
    return ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1, extra=extra)
