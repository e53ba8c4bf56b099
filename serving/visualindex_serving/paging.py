"""Pages: what of the shards' hits one shows, and the cursor from which the next goes on."""

import uuid

import numpy as np

from visualindex_serving.asked import Asked
from visualindex_serving.cursors import MAX_DEPTH, Cursor
from visualindex_serving.fanout import Merged
from visualindex_serving.index_service import IndexService
from visualindex_serving.messages import Float32, UInt8
from visualindex_serving.result_page import Page, Pending


def page_of(merged: Merged, asked: Asked, limit: int, k: int) -> Page:
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


def next_cursor(service: IndexService, asked: Asked, page: Page) -> str | None:
    """The cursor of the page after this one; None when nothing may follow."""
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
