"""The fields of an answer to a search."""

import uuid
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

from visualindex.catalog import ImageRecord
from visualindex_serving.colours import shown_colours
from visualindex_serving.domains import Scope
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.ordering import shown
from visualindex_serving.result_page import Page
from visualindex_serving.thumbnails import thumbnail_paths
from visualindex_serving.timings import Timings
from visualindex_serving.visibility import attributes_of

_NO_METADATA: dict[str, Any] = {
    "key": None,
    "category": None,
    "url": None,
    "metadata": None,
    "thumbnails": {},
    "colours": [],
}


def in_scope(
    scope: Scope, page: Page, records: Mapping[uuid.UUID, ImageRecord]
) -> Iterable[tuple[uuid.UUID, float, float | None, ImageRecord | None]]:
    """The hits of a page that reach the least score of a domain they are in: one without a record must reach all.

    Each with its score, what it was reranked by, and its record.
    """
    for image_id, score, by in zip_longest(page.ids, page.scores, page.reranked):
        record = records.get(image_id)
        if score >= scope.sure_above or (record is not None and scope.keeps(attributes_of(record), score)):
            yield image_id, score, by, record


def hit_of(
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


def explained(merged: Merged, timings: Timings) -> dict[str, Any]:
    """What `explain` shows: the time of every step, and what each shard did."""
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


def facets_of(merged: Merged, names: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """How many matching images have each value, under the names by which the request asked for the fields."""
    counts = merged.whole.facets
    return {
        name: [{"value": shown(value), "count": count} for value, count in counts[field]]
        for name, field in names.items()
    }
