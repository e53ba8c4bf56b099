"""The index against a dictionary: whatever is inserted, replaced, removed and asked, both agree."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visualindex.ann import Deletes, ShardIndex, Upserts
from visualindex.filters import Filter, matches, parse_filter
from visualindex.spec.models import HnswSpec

DIMENSION = 16
IDS = [uuid.UUID(int=n << 64 | n).bytes for n in range(60)]
SPEC = HnswSpec(m=8, ef_construction=40, ef_search=40)
GIB = 1 << 30


@contextmanager
def shard(flat_below: int = 1000, memory_limit: int = GIB) -> Iterator[ShardIndex]:
    index = ShardIndex(DIMENSION, flat_below=flat_below, hnsw=SPEC, memory_limit=memory_limit)
    try:
        yield index
    finally:
        index.close()


def vector_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def id_array(keys: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


class Model:
    """What the index should hold: brute force over a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[int, np.ndarray, dict[str, Any]]] = {}
        self.removed: dict[bytes, int] = {}

    def upsert(self, key: bytes, version: int, vector: np.ndarray, attributes: dict[str, Any]) -> None:
        held = self.rows[key][0] if key in self.rows else self.removed.get(key, -1)
        if version > held:
            self.rows[key] = version, vector, attributes
            self.removed.pop(key, None)

    def delete(self, key: bytes, version: int) -> None:
        if key in self.rows and self.rows[key][0] > version:
            return
        self.removed[key] = max(version, self.removed.get(key, -1), self.rows.pop(key, (-1,))[0])

    def search(self, query: np.ndarray, tree: Filter | None, exclude: list[bytes]) -> dict[bytes, float]:
        """Every matching image with its exact cosine."""
        return {
            key: float(vector @ query / np.linalg.norm(vector) / np.linalg.norm(query))
            for key, (_, vector, attributes) in self.rows.items()
            if key not in exclude and (tree is None or matches(tree, attributes))
        }


scalars = st.sampled_from(["", "a", "ab", "b", "é", 0, 1, 2, 2.5, -1, 10**20, True, False])
attributes = st.sampled_from(
    [
        {},
        {"category": None, "key": "k1", "metadata": {}},
        {"category": "Bed", "key": "k2", "metadata": {"x": 1, "y": True}},
        {"category": "Bedside", "key": "K1", "metadata": {"x": [1, 2, 2.5, "a"], "y": []}},
        {"category": "Chair", "key": "k1", "metadata": {"x": {"y": "ab"}, "y": None}},
        {"category": "Chair", "key": "", "metadata": {"x.y": "b", "y": 10**20}},
        {"category": "Bed", "key": "k1", "metadata": {"x": [{"y": 1}, {"y": [True, [0]]}], "y": {}}},
        {"category": "", "key": "k2", "metadata": {"x": {"x.y": -1, "": 3}, "y": [None]}},
        {"category": "Bed", "key": "k3", "metadata": {"x": {"x": {"y": "é"}}, "y": 1.0}},
        {"category": "Bed", "key": "k3", "metadata": {"x": False, "y": ["a", "ab", "b", 0]}},
    ]
)
names = st.sampled_from(["category", "key", "metadata.x", "metadata.y", "metadata.x.y", "metadata.x.x.y"])
bounds = st.one_of(
    [
        st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), values, min_size=1, max_size=2)
        for values in (
            st.sampled_from([-1, 0, 1, 1.5, 2, 10**20]),
            st.sampled_from(["", "a", "ab", "b", "é"]),
        )
    ]
)
leaves = st.one_of(
    st.builds(lambda f, v: {"eq": {f: v}}, names, scalars),
    st.builds(lambda f, v: {"in": {f: v}}, names, st.lists(scalars, min_size=1, max_size=4)),
    st.builds(lambda f, v: {"range": {f: v}}, names, bounds),
    st.builds(lambda f, v: {"prefix": {f: v}}, names, st.sampled_from(["a", "ab", "Be", "k", "é"])),
    st.builds(lambda f: {"exists": f}, names),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda terms: {"and": terms}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda terms: {"or": terms}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda term: {"not": term}, inner),
    ),
    max_leaves=3,
).map(lambda document: parse_filter(document, max_depth=32))

versions = st.integers(1, 40)
upserts = st.lists(
    st.tuples(st.sampled_from(IDS), versions, st.integers(0, 30), attributes), min_size=1, max_size=8
)
deletes = st.lists(st.tuples(st.sampled_from(IDS), versions), max_size=4)
searches = st.tuples(
    st.integers(0, 30),
    st.integers(1, 70),
    st.one_of(st.none(), filters),
    st.lists(st.sampled_from(IDS), max_size=4),
)
steps = st.lists(st.tuples(upserts, deletes, searches), min_size=1, max_size=5)


def apply_both(index: ShardIndex, model: Model, step: tuple[list[Any], list[Any], Any]) -> None:
    rows, removals, _ = step
    for key, version, seed, about in rows:
        model.upsert(key, version, vector_of(seed), about)
    for key, version in removals:
        model.delete(key, version)
    index.apply(
        Upserts(
            id_array([row[0] for row in rows]),
            np.stack([vector_of(row[2]) for row in rows]),
            [row[3] for row in rows],
            np.array([row[1] for row in rows]),
        ),
        Deletes(
            id_array([key for key, _ in removals]), np.array([version for _, version in removals], np.int64)
        ),
    )


def check_search(
    index: ShardIndex, model: Model, search: tuple[int, int, Filter | None, list[bytes]]
) -> None:
    seed, k, tree, exclude = search
    query = vector_of(seed)
    expected = model.search(query, tree, exclude)
    hits = index.search(query[None], k, tree, exclude)
    count = int(hits.counts[0])
    found = [key.tobytes() for key in hits.ids[0, :count]]
    assert count == min(k, len(expected))
    assert len(set(found)) == count
    assert set(found) <= set(expected)
    assert hits.scores[0, :count] == pytest.approx([expected[key] for key in found], abs=2e-3)
    order = [(-score, key) for score, key in zip(hits.scores[0, :count].tolist(), found, strict=True)]
    assert order == sorted(order)


def check_best(index: ShardIndex, model: Model, search: tuple[int, int, Filter | None, list[bytes]]) -> None:
    """Exact search returns the highest scores there are, not merely true ones."""
    seed, k, tree, exclude = search
    query = vector_of(seed)
    best = sorted(model.search(query, tree, exclude).values(), reverse=True)[:k]
    hits = index.search(query[None], k, tree, exclude)
    assert hits.scores[0, : hits.counts[0]] == pytest.approx(best, abs=2e-3)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_flat_index_agrees_with_the_model(steps: list[Any]) -> None:
    model = Model()
    with shard() as index:
        for step in steps:
            apply_both(index, model, step)
            assert len(index) == len(model.rows)
            check_search(index, model, step[2])
            check_best(index, model, step[2])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.booleans())
def test_graph_index_agrees_with_the_model(steps: list[Any], wait: bool) -> None:
    """With a graph from the fourth row on, built, extended and compacted between and beside the changes."""
    model = Model()
    with shard(flat_below=4) as index:
        for step in steps:
            apply_both(index, model, step)
            if wait:
                index.maintain()
            assert len(index) == len(model.rows)
            check_search(index, model, step[2])


@settings(max_examples=20, deadline=None)
@given(steps)
def test_applying_everything_again_changes_nothing(steps: list[Any]) -> None:
    model = Model()
    with shard() as index:
        for step in steps:
            apply_both(index, model, step)
        for step in steps:
            apply_both(index, model, step)
        for step in steps:
            check_search(index, model, step[2])
        assert len(index) == len(model.rows)


@settings(max_examples=20, deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_for_versioned_changes(steps: list[Any], random: Any) -> None:
    """Changes of distinct versions lead to the same images, however they are shuffled."""
    changes: list[tuple[str, Any]] = []
    for rows, removals, _ in steps:
        changes += [("upsert", row) for row in rows] + [("delete", removal) for removal in removals]
    changes = [(kind, (change[0], at + 1, *change[2:])) for at, (kind, change) in enumerate(changes)]
    answers = []
    for order in (changes, random.sample(changes, len(changes))):
        with shard() as index:
            for kind, change in order:
                if kind == "upsert":
                    key, version, seed, about = change
                    index.apply(Upserts(id_array([key]), vector_of(seed)[None], [about], np.array([version])))
                else:
                    index.apply(None, Deletes(id_array([change[0]]), np.array([change[1]])))
            answers.append(index.search(vector_of(3)[None], 60))
    assert answers[0].counts.tolist() == answers[1].counts.tolist()
    assert np.array_equal(answers[0].ids, answers[1].ids)
    assert np.array_equal(answers[0].scores, answers[1].scores)
