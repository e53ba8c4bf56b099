"""The answers of all shards to one query as one: hits in the order that was asked for, and counts added up."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from visualindex.ann import Hits, Sorting, merge_hits
from visualindex.ann.attributes import order_of
from visualindex.ann.looking import capped, sort_order, taken
from visualindex_serving.messages import ShardAnswer, ShardQuery, Value

_FACET_VALUES = 1000


@dataclass(frozen=True)
class Whole:
    """What the shards found together: `keys` are the values that grouped or sorted the hits."""

    hits: Hits
    keys: list[Value | None] = field(default_factory=list)
    facets: dict[str, list[tuple[Value, int]]] = field(default_factory=dict)
    matches: int = 0


def merged(query: ShardQuery, answers: Sequence[ShardAnswer]) -> Whole:
    """Merge the answers of at least one shard."""
    matches = sum(answer.matches for answer in answers)
    facets = {name: _counts(name, answers) for name in query.facets}
    if query.group is None and query.sort is None:
        parts = [_hits(answer) for answer in answers]
        return Whole(parts[0] if len(parts) == 1 else merge_hits(parts, query.k), [], facets, matches)
    hits, keys = _keyed(answers)
    if query.sort is not None:
        ids = [image_id.tobytes() for image_id in hits.ids[0, : int(hits.counts[0])]]
        places = sort_order(keys, ids, Sorting(query.sort.field, query.sort.direction))
    else:
        assert query.group is not None  # noqa: S101 - one of the two
        places = capped(keys, query.group.size)
    places = places[: query.k]
    return Whole(taken(hits, places), [keys[place] for place in places], facets, matches)


def _hits(answer: ShardAnswer) -> Hits:
    return Hits(answer.ids, answer.scores, answer.counts, answer.versions)


def _keyed(answers: Sequence[ShardAnswer]) -> tuple[Hits, list[Value | None]]:
    """All hits to the one query by score, each image once, and the value of each."""
    keys = [key for answer in answers for key in answer.keys]
    versions = np.concatenate([answer.versions[0, : int(answer.counts[0])] for answer in answers])
    parts, first = [], 0
    for answer in answers:
        numbered = np.arange(first, first + answer.versions.shape[1])[None]
        parts.append(Hits(answer.ids, answer.scores, answer.counts, numbered))
        first += int(answer.counts[0])
    hits = merge_hits(parts, max(1, len(keys)))
    places = hits.versions[0, : int(hits.counts[0])]
    at = np.zeros_like(hits.versions)
    at[0, : len(places)] = versions[places]
    return Hits(hits.ids, hits.scores, hits.counts, at), [keys[place] for place in places.tolist()]


def _counts(name: str, answers: Sequence[ShardAnswer]) -> list[tuple[Value, int]]:
    """Images by value, the most frequent values of all shards first."""
    counts: dict[Value, int] = {}
    for answer in answers:
        for value, count in answer.facets.get(name, ()):
            counts[value] = counts.get(value, 0) + count
    return sorted(counts.items(), key=lambda item: (-item[1], order_of(item[0])))[:_FACET_VALUES]
