"""A search, from query to hits: vector, shards, metadata."""

import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import orjson

from visualindex.api.search import SearchRequest
from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import (
    NO_SCHEMA,
    Filter,
    Schema,
    conjoin,
    parse_filter,
    read_filter,
    schema_of,
    to_json,
)
from visualindex_serving.access import Grant
from visualindex_serving.colours import shown_colours
from visualindex_serving.cursors import MAX_DEPTH, Cursor, decode_cursor, unusable
from visualindex_serving.deadlines import deadline_in, monotonic, remaining, within
from visualindex_serving.domains import NO_SCOPE, Scope, scope_of, with_defaults
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import Float32, Group, ShardQuery, Sort, UInt8
from visualindex_serving.ordering import grouping, shown, sorting
from visualindex_serving.originals import check_image_bytes, read_original
from visualindex_serving.problems import invalid
from visualindex_serving.reranking import NO_LIKENESS, Likeness, Wish
from visualindex_serving.result_page import Page, Pending
from visualindex_serving.thumbnails import thumbnail_paths
from visualindex_serving.visibility import attributes_of, not_found, visible, visible_image
from visualindex_serving.vision import normalised

logger = logging.getLogger(__name__)

_SHARDS_SHARE = 0.8  # of what is left of the deadline: the rest fetches metadata when a shard never answers
_CATCH_UP_SHARE = 0.8
_METADATA_SHARE = 0.9
_FILTER_BYTES = 64 * 1024
_LOOKS = 3
_TOKEN = re.compile(r"[0-9a-f]{1,16}\.[0-9a-f]{1,16}")
_NOT_WITH_CURSOR = ("query", "filter", "domain", "min_score", "include_self", "group_by", "sort", "facets")


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
    group: Group | None = None
    sort: Sort | None = None
    scope: Scope = NO_SCOPE
    likeness: Likeness = NO_LIKENESS

    @property
    def depth(self) -> int:
        """Hits shown on earlier pages."""
        return 0 if self.after is None else self.after.depth


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
    request = _checked(service, request, upload)
    timings = Timings()
    asked = await within(
        deadline, "preparing the query", _ask(service, request, upload, grant, deadline, timings)
    )
    wish = await _wish(service, request, asked)
    most = max(request.limit, wish.candidates)
    effective = _effective(asked.filter, grant)
    merged, found = await _look(service, request, asked, effective, most, deadline, timings)
    if request.require_complete and not merged.complete:
        raise _incomplete(merged)
    page = await _reranked(service, wish, asked, found, request.limit, deadline, timings)
    records, degraded = await _metadata(service, page, grant, deadline, timings)
    records = {i: record for i, record in records.items() if visible(grant.filter, record)}
    hits = [
        hit
        for i, s, by in _in_scope(asked.scope, page, records)
        for hit in _hit(service, i, s, by, records.get(i), base, whole=not degraded)
    ]
    answer = {
        "query_id": uuid.uuid4(),
        "index": service.name,
        "hits": hits,
        "complete": merged.complete,
        "degraded": degraded,
        "reranked": bool(page.reranked),
        "rerank_reason": page.reason,
        "generation": merged.generation,
        "fingerprint": service.fingerprint,
        "missing_shards": merged.missing,
        "facets": _facets(merged) if request.facets else None,
        "next_cursor": _next(service, asked, page),
        "took_ms": round((time.perf_counter() - start) * 1000, 2),
        "explain": _explain(merged, timings) if request.explain else None,
    }
    return Found(answer, [hit["image_id"] for hit in hits], timings)


def _in_scope(
    scope: Scope, page: Page, records: Mapping[uuid.UUID, ImageRecord]
) -> Iterable[tuple[uuid.UUID, float, float | None]]:
    """The hits of a page that reach the least score of a domain they are in: one without a record must reach all.

    Each with its score, and what it was reranked by.
    """
    for image_id, score, by in zip_longest(page.ids, page.scores, page.reranked):
        record = records.get(image_id)
        if score >= scope.sure_above or (record is not None and scope.keeps(attributes_of(record), score)):
            yield image_id, score, by


def _checked(service: IndexService, request: SearchRequest, upload: bytes | None) -> SearchRequest:
    """The request with its limit settled, after refusing what can be refused without looking anywhere."""
    request = with_defaults(request, service.resource.spec)
    limit = service.resource.spec.limits.search_limit
    if "limit" not in request.model_fields_set and request.limit > limit:
        request = request.model_copy(update={"limit": limit})
    if request.limit > limit:
        raise invalid("/limit", f"at most {limit} for this index (limits.searchLimit)")
    if request.token is not None and not _TOKEN.fullmatch(request.token):
        raise invalid("/token", "is not a token of this service: send one back as a write returned it")
    if upload is not None:
        check_image_bytes(service, upload)
    return request


async def _ask(
    service: IndexService,
    request: SearchRequest,
    upload: bytes | None,
    grant: Grant,
    deadline: float,
    timings: Timings,
) -> Asked:
    if request.cursor is not None:
        return _continue(service, request, upload)
    query = request.query
    exclude = (query.image_id,) if query.image_id is not None and not request.include_self else ()
    spec = service.resource.spec
    scope = scope_of(request.domains, spec, own_scores=request.min_score is None)
    checked = _checked_filter(request.filter, schema_of(spec.attributes), within=scope.filter)
    vector, likeness = await _vector(service, request, upload, grant, deadline, timings)
    least = scope.min_score if request.min_score is None else request.min_score
    group, sort = grouping(request.group_by), sorting(request.sort)
    return Asked(vector, checked, exclude, least, None, group, sort, scope, likeness)


def _continue(service: IndexService, request: SearchRequest, upload: bytes | None) -> Asked:
    repeated = [name for name in _NOT_WITH_CURSOR if name in request.model_fields_set]
    if upload is not None or repeated:
        given = "an image" if upload is not None else repeated[0]
        raise invalid("/cursor", f"the cursor carries its query and filter already: leave out {given}")
    cursor = decode_cursor(str(request.cursor))
    if (cursor.index, cursor.fingerprint) != (service.name, service.fingerprint):
        raise unusable("it belongs to another index or encoder; start the search again")
    if cursor.vector.shape != (service.dimension,):
        raise unusable("it is damaged; start the search again")
    group = None if cursor.group is None else Group(*cursor.group)
    sort = None
    if cursor.sort is not None:
        field_, direction = cursor.sort
        sort = Sort(field_, direction, (cursor.last_key, cursor.last_id.bytes))
    return Asked(
        cursor.vector,
        _checked_filter(cursor.filter, again=True),
        cursor.exclude,
        cursor.min_score,
        cursor,
        group,
        sort,
        scope_of(cursor.domains, service.resource.spec),
    )


async def _vector(
    service: IndexService,
    request: SearchRequest,
    upload: bytes | None,
    grant: Grant,
    deadline: float,
    timings: Timings,
) -> tuple[Float32, Likeness]:
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


def _reread(canonical: Any) -> Filter:
    """A filter that was accepted before: its canonical spelling nests deeper than what the caller wrote."""
    return parse_filter(canonical, max_depth=32, max_terms=256)


def _checked_filter(
    given: dict[str, Any] | str | None,
    schema: Schema = NO_SCHEMA,
    *,
    again: bool = False,
    within: Filter | None = None,
) -> dict[str, Any] | None:
    """The filter, and `within`, in its one spelling, which names fields alone; `again` for one in that spelling.

    Raises ProblemError INVALID_FILTER.
    """
    if given is None:
        return None if within is None else to_json(within)
    tree = _reread(given) if again else read_filter(given, schema=schema)
    checked = to_json(tree if within is None else conjoin(tree, within))
    if len(orjson.dumps(checked)) > _FILTER_BYTES:
        detail = f"The filter is larger than {_FILTER_BYTES} bytes; list fewer values."
        raise ProblemError(ProblemType.INVALID_FILTER, detail, extra={"pointer": ""})
    return checked


def _effective(given: dict[str, Any] | None, grant: Grant) -> dict[str, Any] | None:
    """The request's filter and the key's, both of which every hit must match."""
    if grant.filter is None or given is None:
        return given if grant.filter is None else grant.filter
    return to_json(conjoin(_reread(given), parse_filter(grant.filter)))


async def _wish(service: IndexService, request: SearchRequest, asked: Asked) -> Wish:
    """A first page decides; the pages after it show what it left, and then go on as the first stage has it."""
    if asked.after is not None or asked.sort is not None:
        return Wish()
    return await service.reranking.wish(request.rerank, asked.likeness)


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
        page = _page(merged, asked, limit, k)
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
    arguments = (service, request, asked, effective, k, deadline, timings)
    try:
        return await _shards(*arguments)
    except ProblemError as problem:
        if problem.type is not ProblemType.CONFLICT:
            raise
        await service.generations.refresh()
        return await _shards(*arguments)


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
            generation=service.generations.of(service.name),
            min_score=asked.min_score if asked.sort is not None else None,
            facets=tuple(request.facets) if asked.after is None else (),
            group=asked.group,
            sort=asked.sort,
            explain=request.explain,
        )
    )
    timings.add("shards", (time.perf_counter() - start) * 1000)
    return merged


def _page(merged: Merged, asked: Asked, limit: int, k: int) -> Page:
    """What is pending of a reranked page, then the hits after the cursor's last one and above the least score.

    `more` unless the shards have been emptied.
    """
    count = int(merged.hits.counts[0])
    scores, ids = merged.hits.scores[0, :count], merged.hits.ids[0, :count]
    if asked.sort is not None:
        return _sorted_page(merged, limit)
    first = 0 if asked.after is None else _first_after(scores, ids, asked.after)
    end = count if asked.min_score is None else int(np.searchsorted(-scores, -asked.min_score, side="right"))
    exhausted = end < count or count < k
    listed, pending = ([], ()) if asked.after is None else _still_there(ids[:end], asked.after.pending, limit)
    taken = limit - len(listed)
    shown = [*(place for place, _ in listed), *range(first, min(first + taken, end))]
    last = shown[-1] if len(shown) > len(listed) else None
    return Page(
        [uuid.UUID(bytes=ids[place].tobytes()) for place in shown],
        scores[shown].tolist(),
        merged.hits.versions[0, shown].tolist(),
        bool(pending) or end > first + taken or not exhausted,
        taken,
        None if last is None else (float(scores[last]), uuid.UUID(bytes=ids[last].tobytes())),
        tuple(by for _, by in listed),
        pending,
    )


def _sorted_page(merged: Merged, limit: int) -> Page:
    """The first hits: the shards began where the page before ended."""
    count = int(merged.hits.counts[0])
    shown = slice(0, min(limit, count))
    ids = [uuid.UUID(bytes=image_id.tobytes()) for image_id in merged.hits.ids[0, shown]]
    scores = merged.hits.scores[0, shown].tolist()
    return Page(
        ids,
        scores,
        merged.hits.versions[0, shown].tolist(),
        count > limit,
        len(ids),
        (scores[-1], ids[-1]) if ids else None,
        last_key=merged.whole.keys[len(ids) - 1] if ids else None,
    )


def _still_there(ids: UInt8, pending: Pending, limit: int) -> tuple[list[tuple[int, float]], Pending]:
    """Where the first `limit` pending hits stand among those that the shards found just now, and those that are left.

    What the shards did not find was deleted, left the filter, or never was one of theirs: the cursor is a caller's word.
    """
    if not pending:
        return [], ()
    places = {row.tobytes(): place for place, row in enumerate(ids)}
    there = [(places[i.bytes], by, i) for i, by in pending if i.bytes in places]
    return [(place, by) for place, by, _ in there[:limit]], tuple((i, by) for _, by, i in there[limit:])


def _first_after(scores: Float32, ids: UInt8, after: Cursor) -> int:
    """Where the hits begin that follow the cursor's last one: scores float32[n] descend, ties are ordered by id."""
    last = np.float32(after.last_score)
    first, ties_end = (
        np.searchsorted(-scores, -last, side="left"),
        np.searchsorted(-scores, -last, side="right"),
    )
    while first < ties_end and ids[first].tobytes() <= after.last_id.bytes:
        first += 1
    return int(first)


async def _metadata(
    service: IndexService, page: Page, grant: Grant, deadline: float, timings: Timings
) -> tuple[Mapping[uuid.UUID, ImageRecord], list[str]]:
    """The hits' records; those that are remembered, with a note, when the database does not answer in time.

    A key's filter holds for what an image is now, so what was remembered of it will not do.
    """
    start = time.perf_counter()
    try:
        if not page.ids:
            return {}, []
        until = time.time() + remaining(deadline) * _METADATA_SHARE
        if grant.filter is None:
            reading = service.records.of(page.ids, page.versions)
        else:
            reading = service.catalog.get_images(service.name, page.ids)
        return await within(until, "metadata", reading), []
    except ProblemError as exc:
        logger.warning("hits are answered without the metadata that is not remembered: %s", exc)
        known = service.records.known(page.ids, page.versions) if grant.filter is None else {}
        return known, ["metadata"]
    finally:
        timings.add("metadata", (time.perf_counter() - start) * 1000)


def _hit(
    service: IndexService,
    image_id: uuid.UUID,
    score: float,
    reranked: float | None,
    record: ImageRecord | None,
    base: str,
    *,
    whole: bool,
) -> Iterable[dict[str, Any]]:
    """The fields of a Hit.

    Without a record: nothing when the database had its say (`whole`), for then the image was deleted or left the key's
    filter since the shard saw it; else what the shard said, for ids and scores still help.
    """
    by = None if reranked is None else round(reranked, 6)
    scores = {"score": round(score, 6), "rerank_score": by}
    if record is None:
        if not whole:
            yield {"image_id": image_id, **scores, **_NO_METADATA}
        return
    sizes = service.resource.spec.storage.thumbnail_sizes
    yield {
        "image_id": image_id,
        **scores,
        "key": record.key,
        "category": record.category,
        "url": record.url,
        "metadata": record.metadata,
        "thumbnails": thumbnail_paths(service.name, record.content_digest.hex(), sizes, base),
        "colours": shown_colours(record.colours),
    }


_NO_METADATA: dict[str, Any] = {
    "key": None,
    "category": None,
    "url": None,
    "metadata": None,
    "thumbnails": {},
    "colours": [],
}


def _next(service: IndexService, asked: Asked, page: Page) -> str | None:
    depth = asked.depth + page.taken
    last = page.last
    if last is None and asked.after is not None:
        last = asked.after.last_score, asked.after.last_id
    if not page.more or not page.ids or last is None or (depth >= MAX_DEPTH and not page.pending):
        return None
    return Cursor(
        index=service.name,
        fingerprint=service.fingerprint,
        vector=asked.vector,
        filter=asked.filter,
        exclude=asked.exclude,
        min_score=asked.min_score,
        depth=min(depth, MAX_DEPTH),
        last_score=last[0],
        last_id=last[1],
        pending=page.pending,
        domains=asked.scope.names if asked.scope.thresholds else (),
        group=None if asked.group is None else (asked.group.field, asked.group.size),
        sort=None if asked.sort is None else (asked.sort.field, asked.sort.direction),
        last_key=page.last_key,
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
            "matches": 0 if r.answer is None else r.answer.matches,
            "plan": [] if r.answer is None else r.answer.plans,
        }
        for r in merged.reports
    ]
    return {
        "timings_ms": {k: round(v, 2) for k, v in timings.steps.items()},
        "matches": merged.whole.matches,
        "shards": shards,
    }


def _facets(merged: Merged) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{"value": shown(value), "count": count} for value, count in counts]
        for name, counts in merged.whole.facets.items()
    }


def _incomplete(merged: Merged) -> ProblemError:
    missing = ", ".join(map(str, merged.missing))
    detail = f"Shards {missing} of this index did not answer in time, and the search demands all; try again."
    return ProblemError(
        ProblemType.UNAVAILABLE, detail, retry_after_s=1, extra={"missing_shards": merged.missing}
    )
