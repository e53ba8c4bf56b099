"""What a search asks of the shards: the request, or the cursor that continues one, checked and reduced."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from visualindex.api.search import SearchRequest
from visualindex.filters import (
    NO_SCHEMA,
    Filter,
    Schema,
    conjoin,
    read_filter,
    schema_of,
    to_json,
)
from visualindex_serving.accepted_filters import check_size, reread
from visualindex_serving.access import Grant
from visualindex_serving.cursors import Cursor, decode_cursor, unusable
from visualindex_serving.domains import NO_SCOPE, Scope, scope_of, with_defaults
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import Float32, Group, Sort
from visualindex_serving.ordering import counted, grouping, is_time, sorting
from visualindex_serving.originals import check_image_bytes
from visualindex_serving.problems import invalid
from visualindex_serving.query_vector import query_vector
from visualindex_serving.reranking import NO_LIKENESS, Likeness
from visualindex_serving.timings import Timings

_TOKEN = re.compile(r"[0-9a-f]{1,16}\.[0-9a-f]{1,16}")
_NOT_WITH_CURSOR = ("query", "filter", "domain", "min_score", "include_self", "group_by", "sort", "facets")


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
    facets: Mapping[str, str] = field(default_factory=dict)
    """The field to count for each name that the request gives it."""

    @property
    def depth(self) -> int:
        """Hits shown on earlier pages."""
        return 0 if self.after is None else self.after.depth


def checked(service: IndexService, request: SearchRequest, upload: bytes | None) -> SearchRequest:
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


async def ask(
    service: IndexService,
    request: SearchRequest,
    upload: bytes | None,
    grant: Grant,
    deadline: float,
    timings: Timings,
) -> Asked:
    """What the request asks, or what the cursor in it continues. Raises ProblemError for every refusal."""
    if request.cursor is not None:
        return _continue(service, request, upload)
    query = request.query
    exclude = (query.image_id,) if query.image_id is not None and not request.include_self else ()
    spec = service.resource.spec
    scope = scope_of(request.domains, spec, own_scores=request.min_score is None)
    schema = schema_of(spec.attributes)
    filter_ = _checked_filter(request.filter, schema, within=scope.filter)
    group, sort = grouping(request.group_by, schema), sorting(request.sort, schema)
    facets = counted(request.facets, schema)
    vector, likeness = await query_vector(service, request, upload, grant, deadline, timings)
    least = scope.min_score if request.min_score is None else request.min_score
    return Asked(vector, filter_, exclude, least, None, group, sort, scope, likeness, facets)


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
        schema = schema_of(service.resource.spec.attributes)
        sort = Sort(field_, direction, (cursor.last_key, cursor.last_id.bytes), is_time(field_, schema))
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
    parts = [] if within is None else [within]
    if given is not None:
        parts.insert(0, reread(given) if again else read_filter(given, schema=schema))
    if not parts:
        return None
    canonical = to_json(parts[0] if len(parts) == 1 else conjoin(*parts))
    check_size(canonical)
    return canonical


def effective_filter(given: dict[str, Any] | None, grant: Grant) -> dict[str, Any] | None:
    """The request's filter and the key's, both of which every hit must match."""
    if grant.filter is None or given is None:
        return given if grant.filter is None else grant.filter
    return to_json(conjoin(reread(given), reread(grant.filter)))
