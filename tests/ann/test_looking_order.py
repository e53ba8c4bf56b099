"""Hits in the order of a field, and grouped by one, against sorting and grouping of everything in Python."""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visualindex.ann import Ask, Grouping, ShardIndex, Sorting
from visualindex.ann.asking import Looked
from visualindex.ann.attributes import order_of
from visualindex.ann.changes import Upserts
from visualindex.filters import instant
from visualindex.spec.models import HnswSpec

DIMENSION = 8
values = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 2.5, "a", "b", "é", True, False]),
    st.lists(st.sampled_from([1, 2, "a", "c"]), max_size=2),
)


def shard(stored: Sequence[Any]) -> tuple[ShardIndex, list[bytes], np.ndarray]:
    """Rows with these values of `metadata.v`, vectors and ids that do not follow their order."""
    random = np.random.default_rng(len(stored))
    vectors = random.standard_normal((len(stored), DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = random.permutation(
        np.array([np.frombuffer(uuid.UUID(int=n + 1).bytes, np.uint8) for n in range(len(stored))]).reshape(
            -1, 16
        )
    )
    index = ShardIndex(DIMENSION, flat_below=1000, hnsw=HnswSpec(), memory_limit=1 << 30)
    attributes = [{"metadata": {"v": value}} for value in stored]
    index.apply(
        Upserts(ids=ids, vectors=vectors, versions=np.arange(1, len(stored) + 1), attributes=attributes)
    )
    return index, [one.tobytes() for one in ids], vectors


def keys_of(value: Any, *, times: bool = False) -> list[Any]:
    each = value if isinstance(value, list) else [value]
    found = [("bool", one) if isinstance(one, bool) else one for one in each if one is not None]
    return [at for one in found if (at := instant(one)) is not None] if times else found


def in_order(stored: Sequence[Any], ids: Sequence[bytes], *, descending: bool, times: bool) -> list[bytes]:
    pick = max if descending else min
    keys = [pick(found, key=order_of) if (found := keys_of(one, times=times)) else None for one in stored]
    having = sorted((at for at, key in enumerate(keys) if key is not None), key=lambda at: ids[at])
    having.sort(key=lambda at: order_of(keys[at]), reverse=descending)
    lacking = sorted((at for at, key in enumerate(keys) if key is None), key=lambda at: ids[at])
    return [ids[at] for at in [*having, *lacking]]


def pages(index: ShardIndex, query: np.ndarray, sort: Sorting, k: int) -> list[bytes]:
    """Every hit, page by page."""
    found: list[bytes] = []
    while True:
        looked = index.look(query, Ask(k, sort=sort))
        count = int(looked.hits.counts[0])
        found += [one.tobytes() for one in looked.hits.ids[0, :count]]
        if count < k:
            return found
        sort = Sorting(sort.field, sort.direction, (looked.keys[count - 1], found[-1]), sort.times)


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=25), st.booleans(), st.integers(1, 7))
def test_pages_in_the_order_of_a_field_are_everything_sorted(
    stored: list[Any], descending: bool, k: int
) -> None:
    index, ids, vectors = shard(stored)
    sort = Sorting("metadata.v", "desc" if descending else "asc")
    expected = in_order(stored, ids, descending=descending, times=False)
    assert pages(index, vectors[:1], sort, k) == expected


@pytest.mark.parametrize("descending", [False, True])
def test_times_are_sorted_by_the_moment_and_not_as_they_are_written(descending: bool) -> None:
    stored = [
        "2026-03-01T09:30:00+01:00",
        "2026-03-01T08:45:00Z",
        "2026-02-28T23:59:59-05:00",
        1772353799,
        "2026-03-01",
        "no time",
        None,
    ]
    index, ids, vectors = shard(stored)
    sort = Sorting("metadata.v", "desc" if descending else "asc", times=True)
    expected = in_order(stored, ids, descending=descending, times=True)
    assert pages(index, vectors[:1], sort, 3) == expected


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=25), st.integers(1, 3), st.integers(1, 10))
def test_groups_have_their_best_and_there_are_as_many_hits_as_there_can_be(
    stored: list[Any], size: int, k: int
) -> None:
    index, ids, vectors = shard(stored)
    looked = index.look(vectors[:1], Ask(k, group=Grouping("metadata.v", size)))
    scores = vectors.astype(np.float16).astype(np.float32) @ vectors[0]
    expected = [
        ids[at] for at in grouped(stored, sorted(range(len(stored)), key=lambda at: -scores[at]), size)
    ]
    assert hits_of(looked) == expected[:k]


@settings(deadline=None)
@given(st.data())
def test_a_least_score_takes_from_groups_what_is_below_it_and_nothing_else(data: st.DataObject) -> None:
    near = data.draw(st.integers(0, 200), "rows that are nearest, all of one group")
    far = data.draw(st.lists(values, max_size=60))
    graph = data.draw(st.booleans(), "a graph covers most of the rows")
    index, ids, scores, query = near_and_far(near, far, flat_below=1000 if not graph else 40)
    order = sorted(range(len(ids)), key=lambda at: (-scores[at], ids[at]))
    excluded = data.draw(st.lists(st.sampled_from(order), max_size=5, unique=True)) if ids else []
    least = data.draw(st.sampled_from([-1.0, -0.2, 0.3, 0.9, 1.0, *(float(scores[at]) for at in order[:3])]))
    size, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 10))
    ask = Ask(
        k, exclude=tuple(ids[at] for at in excluded), min_score=least, group=Grouping("metadata.v", size)
    )
    left = [at for at in order if scores[at] >= np.float32(least) and at not in excluded]
    expected = [ids[at] for at in grouped([*["near"] * near, *far], left, size)]
    assert hits_of(index.look(query, ask)) == expected[:k]


@pytest.mark.parametrize("least", [None, -1.0, 0.0])
def test_a_large_group_of_the_nearest_hides_no_other_that_scores_enough(least: float | None) -> None:
    index, _, scores, query = near_and_far(500, list(range(2500)), flat_below=4000)
    looked = index.look(query, Ask(10, min_score=least, group=Grouping("metadata.v")))
    assert looked.keys[0] == "near"
    assert len(looked.keys) == min(10, 1 + np.count_nonzero(scores[500:] >= (least or -1)))


def near_and_far(
    near: int, far: Sequence[Any], flat_below: int
) -> tuple[ShardIndex, list[bytes], np.ndarray, np.ndarray]:
    """Rows near a query, whose value is "near", and others, with the score of each; the last are in no graph."""
    random = np.random.default_rng((near, len(far)))
    query = np.eye(1, DIMENSION, dtype=np.float32)
    vectors = random.standard_normal((near + len(far), DIMENSION)).astype(np.float32)
    vectors[:near] = query + 0.05 * vectors[:near]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = random.integers(0, 256, (len(vectors), 16)).astype(np.uint8)
    index = ShardIndex(DIMENSION, flat_below=flat_below, hnsw=HnswSpec(), memory_limit=1 << 30)
    attributes = [{"metadata": {"v": value}} for value in [*["near"] * near, *far]]
    for rows in (slice(0, len(ids) - 10), slice(max(0, len(ids) - 10), None)):
        versions = np.arange(1, len(ids) + 1)[rows]
        index.apply(
            Upserts(ids=ids[rows], vectors=vectors[rows], versions=versions, attributes=attributes[rows])
        )
        if rows.stop is not None:
            index.maintain()
    exact = index.look(query, Ask(max(1, len(ids))), exact=True).hits
    scored = {one.tobytes(): score for one, score in zip(exact.ids[0], exact.scores[0], strict=True)}
    keys = [one.tobytes() for one in ids]
    return index, keys, np.array([scored[key] for key in keys], np.float32), query


def grouped(stored: Sequence[Any], order: Sequence[int], size: int) -> list[int]:
    """Of places in an order those that are among the first `size` of their group."""
    seen: dict[Any, int] = {}
    left = []
    for at in order:
        found = keys_of(stored[at])
        key = min(found, key=order_of) if found else None
        seen[key] = seen.get(key, 0) + 1
        if key is None or seen[key] <= size:
            left.append(at)
    return left


def hits_of(looked: Looked) -> list[bytes]:
    return [one.tobytes() for one in looked.hits.ids[0, : int(looked.hits.counts[0])]]
