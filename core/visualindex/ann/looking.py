"""One search of one published state: candidates, then the hits in the order that was asked for."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann.asking import MAX_FACET_VALUES, Ask, Grouping, Looked, Sorting
from visualindex.ann.attribute_columns import Attributes
from visualindex.ann.attributes import Key, order_of
from visualindex.ann.codes import Mask
from visualindex.ann.hits import Hits, best, id_words, rank
from visualindex.ann.planning import Passing, Way
from visualindex.ann.searching import Candidates, PartPlan, Settings, search_state
from visualindex.ann.state import State
from visualindex.filters import instant

_WIDEN = 4
_CHUNK_ROWS = 8192
_ONE = np.float32(1)


def look(state: State, queries: NDArray[np.float32], ask: Ask, settings: Settings) -> Looked:
    """The hits of each normalised query, float32 [q, dimension], with the counts that were asked for.

    Grouping and sorting take one query. Equal scores, and equal sort values, are ordered by id.
    """
    found = state.selected(ask.filter)
    if ask.sort is not None:
        looked = _sorted(state, queries, ask, ask.sort, found)
    elif ask.group is not None:
        looked = _grouped(state, queries, ask, ask.group, found, settings)
    else:
        candidates = search_state(state, queries, ask.k + len(ask.exclude), found, settings)
        hits, _ = _ranked(state, candidates, ask, len(queries), ask.k)
        looked = Looked(hits, plans=candidates.plans)
    if not ask.facets:
        return looked
    return replace(looked, facets={name: _facet(state, name, found) for name in ask.facets})


def _ranked(
    state: State, candidates: Candidates, ask: Ask, queries: int, k: int
) -> tuple[Hits, NDArray[np.int64] | slice]:
    """The hits, and the candidate that each is: int64 [q, k], of one query a slice or int64 [its hits]."""
    ids, versions = _identities(state, candidates)
    scores = _cosines(candidates.score)
    at = _wanted(ids, scores, ask)
    if queries == 1:
        chosen = best(ids, scores, k) if at is None else at[best(ids[at], scores[at], k)]
        return Hits.of_one(ids[chosen], scores[chosen], versions[chosen], k), chosen
    if at is None:
        at = np.arange(len(ids))
    hits = rank(candidates.asked[at], ids[at], scores[at], at, queries, k)
    chosen = hits.versions
    if not len(versions):
        return hits, chosen
    filled = np.arange(k) < hits.counts[:, None]
    return replace(hits, versions=np.where(filled, versions[chosen], 0)), chosen


def _cosines(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half precision lengthens a vector by up to 1e-4: a cosine above one would only puzzle."""
    return np.minimum(scores, _ONE)


def _wanted(ids: NDArray[np.uint8], scores: NDArray[np.float32], ask: Ask) -> NDArray[np.int64] | None:
    """The places of the candidates that may be hits; None for all."""
    if not ask.exclude and ask.min_score is None:
        return None
    wanted = _not_excluded(ids, ask.exclude)
    if ask.min_score is not None:
        wanted &= scores >= np.float32(ask.min_score)
    return np.flatnonzero(wanted)


def _identities(state: State, candidates: Candidates) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Ids uint8 [n, 16] and versions int64 [n] of the candidates."""
    sources = state.identities
    if (only := candidates.only_part) is not None:
        part_ids, part_versions = sources[only]
        return part_ids.take(candidates.row, 0), part_versions.take(candidates.row)
    ids = np.empty((len(candidates.row), 16), np.uint8)
    versions = np.empty(len(candidates.row), np.int64)
    for part, (part_ids, part_versions) in enumerate(sources):
        here = candidates.part == part
        rows = candidates.row[here]
        ids[here], versions[here] = part_ids[rows], part_versions[rows]
    return ids, versions


def _not_excluded(ids: NDArray[np.uint8], exclude: Sequence[bytes]) -> NDArray[np.bool_]:
    wanted = np.ones(len(ids), np.bool_)
    for one in exclude:
        wanted &= ~(ids == np.frombuffer(one, np.uint8)).all(axis=1)
    return wanted


def _attributes(state: State) -> list[Attributes]:
    return [*(base.segment.attributes for base in state.bases), state.attributes]


def _values(
    state: State,
    name: str,
    parts: NDArray[np.int64],
    rows: NDArray[np.int64],
    pick: Callable[..., Key],
    *,
    times: bool = False,
) -> list[Key | None]:
    """One value of the field for each row: of several the one that `pick` chooses, None without any."""
    values: list[Key | None] = [None] * len(rows)
    for part, attributes in enumerate(_attributes(state)):
        here = np.flatnonzero(parts == part)
        if not len(here):
            continue
        for place, keys in zip(here.tolist(), attributes.values(name, rows[here]), strict=True):
            comparable = _comparable(keys, times=times)
            if comparable:
                values[place] = pick(comparable, key=order_of)
    return values


def _comparable(keys: Sequence[Key | None], *, times: bool) -> list[Key]:
    """Values without objects, or the points in time among them in microseconds since 1970."""
    found = (instant(key) for key in keys) if times else keys
    return [key for key in found if key is not None]


def _grouped(
    state: State,
    queries: NDArray[np.float32],
    ask: Ask,
    group: Grouping,
    found: Sequence[Passing],
    settings: Settings,
) -> Looked:
    """Look deeper until `k` hits are left after each group has its share, or there can be no more."""
    total = sum(passed.count for passed in found)
    width = min(total, (ask.k + len(ask.exclude)) * _WIDEN)
    wanted = ask.k
    while True:
        candidates = search_state(state, queries, max(1, width), found, settings)
        hits, chosen = _ranked(state, candidates, ask, 1, max(1, width))
        groups, keys = _groups(state, group.field, candidates.part[chosen], candidates.row[chosen])
        kept = _first_of_groups(groups, group.size)[: ask.k]
        # Fewer hits than were looked for, whoever is excluded: in each part what comes next scores too low.
        low = ask.min_score is not None and len(groups) < width - len(ask.exclude)
        if len(kept) >= wanted or width >= total or low:
            values = tuple(None if at < 0 else keys[at] for at in groups[kept].tolist())
            return Looked(taken(hits, kept.tolist()), values, plans=candidates.plans)
        if wanted == ask.k:
            wanted = _reachable(state, ask, group, found)
        width = min(total, width * _WIDEN)


def _reachable(state: State, ask: Ask, group: Grouping, found: Sequence[Passing]) -> int:
    """How many hits there are at most, `k` or less, when each value of the field has its share and no score is too low."""
    pool = _pool(state, found)
    parts, rows = pool.part, pool.row
    if ask.exclude:
        left = _not_excluded(_identities(state, pool)[0], ask.exclude)
        parts, rows = parts[left], rows[left]
    groups, _ = _groups(state, group.field, parts, rows)
    of_groups = np.minimum(np.bincount(groups[groups >= 0]), group.size).sum()
    return min(ask.k, int(of_groups) + int(np.count_nonzero(groups < 0)))


def _groups(
    state: State, name: str, parts: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[Key]]:
    """The group of each row, int64 [n], -1 for none, and the value of each group: the smallest of a row's counts."""
    groups = np.full(len(rows), -1, np.int64)
    known: dict[Key, int] = {}
    for part, attributes in enumerate(_attributes(state)):
        here = np.flatnonzero(parts == part)
        if not len(here):
            continue
        _, first, which = np.unique(
            attributes.ranks(name, rows[here]), return_index=True, return_inverse=True
        )
        keys = _values(state, name, parts[here[first]], rows[here[first]], min)
        numbers = [-1 if key is None else known.setdefault(key, len(known)) for key in keys]
        groups[here] = np.array(numbers, np.int64)[which]
    return groups, list(known)


def _first_of_groups(groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The places that remain when each group has its first `size` only, int64 [m]; -1 is nobody's group."""
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    before = np.arange(len(groups)) - np.searchsorted(sorted_groups, sorted_groups)
    return np.sort(order[(before < size) | (sorted_groups < 0)])


def capped(keys: Sequence[Key | None], size: int) -> list[int]:
    """The places of the hits that remain when each value has at most `size` of them; None is nobody's group."""
    known: dict[Key, int] = {}
    groups = [-1 if key is None else known.setdefault(key, len(known)) for key in keys]
    return [int(place) for place in _first_of_groups(np.array(groups, np.int64), size)]


def taken(hits: Hits, places: Sequence[int]) -> Hits:
    """Some of the hits of one query, in the order of `places`."""
    at = np.array(places, np.int64)
    return Hits(hits.ids[:, at], hits.scores[:, at], np.array([len(at)], np.int64), hits.versions[:, at])


def _sorted(
    state: State, queries: NDArray[np.float32], ask: Ask, sort: Sorting, found: Sequence[Passing]
) -> Looked:
    """Every matching row has its place by value: all are ranked part by part, and of each part the first are read.

    They are scored, all of them where a least score is demanded.
    """
    pool = _pool(state, found)
    ids, versions = _identities(state, pool)
    wanted = _not_excluded(ids, ask.exclude)
    scores = np.zeros(len(ids), np.float32)
    if ask.min_score is not None:
        scores = _scores(state, queries[0], pool.part, pool.row)
        wanted &= scores >= np.float32(ask.min_score)
    places = [
        at[_first_in_order(attributes, pool.row[at], ids[at], sort, ask.k)]
        for part, attributes in enumerate(_attributes(state))
        if len(at := np.flatnonzero(wanted & (pool.part == part)))
    ]
    at = np.concatenate([np.zeros(0, np.int64), *places])
    keys = _values(state, sort.field, pool.part[at], pool.row[at], _pick(sort), times=sort.times)
    order = sort_order(keys, [ids[place].tobytes() for place in at], sort)[: ask.k]
    chosen = at[order]
    if ask.min_score is None and len(chosen):
        scores[chosen] = _scores(state, queries[0], pool.part[chosen], pool.row[chosen])
    hits = Hits(
        ids[chosen][None],
        _cosines(scores[chosen])[None],
        np.array([len(chosen)], np.int64),
        versions[chosen][None],
    )
    return Looked(hits, tuple(keys[place] for place in order), plans=pool.plans)


def _pick(sort: Sorting) -> Callable[..., Key]:
    """An image with several values stands where its best one does."""
    return min if sort.direction == "asc" else max


def _first_in_order(
    attributes: Attributes, rows: NDArray[np.int64], ids: NDArray[np.uint8], sort: Sorting, k: int
) -> NDArray[np.int64]:
    """The places of the first `k` of some rows of a part in the order asked for, those behind `sort.after`, in any order."""
    descending = sort.direction == "desc"
    ranks = attributes.ranks(sort.field, rows, largest=descending, times=sort.times)
    has_none = ranks < 0
    # Smaller comes first from here on, and what has no value comes last.
    ranks = np.where(has_none, np.iinfo(np.int32).max, -ranks if descending else ranks)
    places = np.arange(len(rows))
    if sort.after is not None:
        places = np.flatnonzero(_behind(attributes, rows, ranks, ids, sort))
    if len(places) > k:
        last = np.partition(ranks[places], k - 1)[k - 1]
        places = places[ranks[places] <= last]  # more than k where many have the same value
    high, low = id_words(ids[places])
    order = np.lexsort((low, high, ranks[places]))
    return places[order[:k]]


def _behind(
    attributes: Attributes,
    rows: NDArray[np.int64],
    ranks: NDArray[np.int32],
    ids: NDArray[np.uint8],
    sort: Sorting,
) -> Mask:
    """Which rows come after the last of the page before, bool [n]; `ranks` ascend in the order asked for."""
    assert sort.after is not None  # noqa: S101 - the caller asks for a page after another
    key, image_id = sort.after
    high, low = id_words(ids)
    last_high, last_low = (word[0] for word in id_words(np.frombuffer(image_id, np.uint8)[None]))
    later_id: Mask = (high > last_high) | ((high == last_high) & (low > last_low))
    has_none: Mask = ranks == np.iinfo(np.int32).max
    if key is None:
        return np.logical_and(has_none, later_id)
    used, first = np.unique(ranks[~has_none], return_index=True)
    first = np.flatnonzero(~has_none)[first]

    def value(at: int) -> tuple[int, Any]:
        (keys,) = attributes.values(sort.field, rows[first[at : at + 1]])
        return order_of(_pick(sort)(_comparable(keys, times=sort.times), key=order_of))

    descending = sort.direction == "desc"
    at = bisect_left(
        range(len(used)),
        True,
        key=lambda place: value(place) <= order_of(key) if descending else value(place) >= order_of(key),
    )
    if at == len(used):
        return has_none
    later: Mask = ranks >= used[at]
    return later & ((ranks > used[at]) | later_id) if value(at) == order_of(key) else later


def sort_order(keys: Sequence[Key | None], ids: Sequence[bytes], sort: Sorting) -> list[int]:
    """The places of images in the order of their values, those without one last, equals by id; after `sort.after`."""
    descending = sort.direction == "desc"
    having = sorted(
        (place for place, key in enumerate(keys) if key is not None), key=lambda place: ids[place]
    )
    having.sort(key=lambda place: order_of(_some(keys[place])), reverse=descending)
    lacking = sorted((place for place, key in enumerate(keys) if key is None), key=lambda place: ids[place])
    if sort.after is None:
        return [*having, *lacking]
    key, image_id = sort.after
    if key is None:
        return [place for place in lacking if ids[place] > image_id]
    behind = [place for place in having if _is_behind(keys[place], ids[place], key, image_id, descending)]
    return [*behind, *lacking]


def _is_behind(key: Key | None, image_id: bytes, last: Key, last_id: bytes, descending: bool) -> bool:
    mine, its = order_of(_some(key)), order_of(last)
    if mine == its:
        return image_id > last_id
    return (mine < its) if descending else (mine > its)


def _some(key: Key | None) -> Key:
    assert key is not None  # noqa: S101 - the caller has those with a value
    return key


def _pool(state: State, found: Sequence[Passing]) -> Candidates:
    """Every matching row as a candidate without a score."""
    sizes = [base.segment.rows for base in state.bases] + [state.rows]
    rows = [_rows(passed, size) for passed, size in zip(found, sizes, strict=True)]
    names = [f"base {number}" for number in range(len(state.bases))] + ["fresh"]
    plans = tuple(
        PartPlan(
            name,
            Way.SURVIVORS if passed.count else Way.NOTHING,
            size,
            (passed.least, passed.most),
            passed.count,
        )
        for name, size, passed in zip(names, sizes, found, strict=True)
    )
    return Candidates(
        [(np.zeros(len(one), np.int64), one, np.zeros(len(one), np.float32)) for one in rows], plans
    )


def _rows(passed: Passing, size: int) -> NDArray[np.int64]:
    if passed.rows is not None:
        return passed.rows
    return np.arange(size) if passed.mask is None else np.flatnonzero(passed.mask)


def _scores(
    state: State, query: NDArray[np.float32], parts: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The score of every row of a part, float32 [n]."""
    scores = np.empty(len(rows), np.float32)
    for part in range(len(state.bases) + 1):
        here = np.flatnonzero(parts == part)
        for start in range(0, len(here), _CHUNK_ROWS):
            places = here[start : start + _CHUNK_ROWS]
            scores[places] = half.scores_of(state.codes_of(part, rows[places]), query)
    return scores


def _facet(state: State, name: str, found: Sequence[Passing]) -> dict[Key, int]:
    """Matching images by value, the most frequent ones."""
    counts: dict[Key, int] = {}
    for attributes, passed, size in zip(_attributes(state), found, _sizes(state), strict=True):
        rows = passed.rows if passed.rows is not None else passed.mask
        for key, count in attributes.facet(name, np.ones(size, np.bool_) if rows is None else rows).items():
            if key is not None:
                counts[key] = counts.get(key, 0) + count
    frequent = sorted(counts.items(), key=lambda item: (-item[1], order_of(item[0])))
    return dict(frequent[:MAX_FACET_VALUES])


def _sizes(state: State) -> list[int]:
    return [*(base.segment.rows for base in state.bases), state.rows]
