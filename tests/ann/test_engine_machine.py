"""A shard over real segments against brute force in plain Python: whatever happens in whatever order, both agree."""

import shutil
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from visualindex.ann import (
    Ask,
    Base,
    Deletes,
    Grouping,
    Looked,
    ShardIndex,
    Sorting,
    Upserts,
    open_segment,
    write_segment,
)
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.changes import normalised
from visualindex.ann.families import Parameters, build_and_tune, held_out_last
from visualindex.ann.segment import VECTORS
from visualindex.filters import matches, parse_filter
from visualindex.identity import buckets_of, buckets_of_shard
from visualindex.spec.models import HnswSpec

DIMENSION = 8
GIB = 1 << 30
SPEC = HnswSpec(m=4, ef_construction=16, ef_search=16)
FAMILIES = ("hnsw-fp16", "hnsw-sq8")
# Four neighbours share their first half, which is all that a segment's sorted keys hold.
IDS = [uuid.UUID(int=(n // 4 * 0x9E37_79B9_7F4A_7C15 % 2**64) << 64 | n * 7919).bytes for n in range(48)]
POOL = np.random.default_rng(5).standard_normal((9, DIMENSION)).astype(np.float32)  # few: scores tie

Row = tuple[int, int, dict[str, Any]]
"""Version, number of the vector, attributes."""


@dataclass
class Model:
    """What the shard must hold."""

    rows: dict[bytes, Row]
    removed: dict[bytes, int]

    def upsert(self, key: bytes, row: Row) -> None:
        held = self.rows[key][0] if key in self.rows else self.removed.get(key, -1)
        if row[0] > held:
            self.rows[key] = row
            self.removed.pop(key, None)

    def delete(self, key: bytes, version: int | None) -> None:
        held = self.rows[key][0] if key in self.rows else None
        if version is not None and held is not None and held > version:
            return
        known = [v for v in (version, held, self.removed.get(key)) if v is not None]
        if known:
            self.removed[key] = max(known)
        self.rows.pop(key, None)


def values_of(attributes: dict[str, Any], field: str) -> list[Any]:
    """The scalars of a field."""
    value: Any = attributes
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    listed = value if isinstance(value, list) else [value]
    return [one for one in listed if isinstance(one, str | int | float)]


def key_of(value: Any) -> Any:
    return ("bool", value) if isinstance(value, bool) else value


def rank_of(key: Any) -> tuple[int, Any]:
    if isinstance(key, tuple):
        return 2, key[1]
    return (0, key) if isinstance(key, str) else (1, key)


def one_value(attributes: dict[str, Any], field: str, pick: Any) -> Any:
    keys = [key_of(value) for value in values_of(attributes, field)]
    return pick(keys, key=rank_of) if keys else None


def scores_of(rows: dict[bytes, Row], query: int) -> dict[bytes, float]:
    """The exact score of every row, by the one kernel there is."""
    if not rows:
        return {}
    vectors = POOL[[row[1] for row in rows.values()]]
    codes = half.encode(unit(vectors))
    scores = np.minimum(half.scores_of(codes, unit(POOL[query : query + 1])[0]), np.float32(1))
    return dict(zip(rows, scores.tolist(), strict=True))


def unit(vectors: np.ndarray) -> np.ndarray:
    """To the last bit as a shard does it: ties are part of what is compared."""
    return normalised(vectors, DIMENSION, "vectors")


def as_ids(keys: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


def upserts_of(rows: Sequence[tuple[bytes, Row]]) -> Upserts:
    return Upserts(
        as_ids([key for key, _ in rows]),
        POOL[[row[1] for _, row in rows]],
        [row[2] for _, row in rows],
        np.array([row[0] for _, row in rows], np.int64),
    )


numbers = st.integers(0, len(IDS) - 1)
batches = st.lists(numbers, min_size=1, max_size=12)
poolings = st.integers(0, len(POOL) - 1)
abouts = st.fixed_dictionaries(
    {
        "category": st.sampled_from([None, "Bed", "Bedside", "Chair"]),
        "key": st.sampled_from([None, "k1", "k2"]),
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "n": st.sampled_from([0, 1, 1.0, 2.5, -3, 10**20, 2**53 + 1, True, False, "a", None, {}]),
                "tags": st.lists(st.sampled_from(["a", "b", "ab", 1, 2.5, True]), max_size=3),
            },
        ),
    }
)
filters = st.sampled_from(
    [
        {"eq": {"category": "Bed"}},
        {"prefix": {"category": "Bed"}},
        {"in": {"key": ["k1", "nobody"]}},
        {"range": {"metadata.n": {"gte": 1, "lt": 10**20}}},
        {"exists": "metadata.n"},
        {"eq": {"metadata.n": True}},
        {"eq": {"metadata.n": 2**53 + 1}},
        {"not": {"eq": {"metadata.tags": "a"}}},
        {"and": [{"exists": "metadata.tags"}, {"not": {"prefix": {"category": "Bed"}}}]},
        {"or": [{"eq": {"metadata.tags": 1}}, {"range": {"metadata.n": {"lt": 0}}}]},
        {"eq": {"category": "Nothing"}},
    ]
)
asked = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 3, 4, 6, 12, 60]),
        "filter": st.none() | filters,
        "exclude": st.lists(numbers, max_size=3),
        "min_score": st.none() | st.sampled_from([-1.0, 0.0, 0.5]),
    }
)
names = st.sampled_from(["category", "key", "metadata.n", "metadata.tags", "metadata.none"])


class Engine(RuleBasedStateMachine):
    """Shard 0 of M. Generations are built for another number of shards, so that segments hold foreign rows too."""

    flat_below = 1000
    families: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vi-engine-"))
        self.version = 0
        self.foreign: dict[bytes, Row] = {}
        self.model = Model({}, {})
        self.history: list[tuple[bytes, Row | int]] = []
        self.snapshot: tuple[dict[bytes, Row], int] | None = None
        self.generation = 0

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
        shutil.rmtree(self.folder)

    @initialize(shards=st.integers(1, 3))
    def begin(self, shards: int) -> None:
        self.buckets = buckets_of_shard(0, shards)
        numbers = buckets_of(as_ids(IDS))
        self.mine = {key for key, bucket in zip(IDS, numbers.tolist(), strict=True) if bucket in self.buckets}
        self.index = self.opened(())

    def opened(self, bases: Sequence[Base]) -> ShardIndex:
        return ShardIndex(DIMENSION, flat_below=self.flat_below, hnsw=SPEC, memory_limit=GIB, bases=bases)

    @rule(chosen=batches, vector=poolings, about=abouts, data=st.data())
    def upsert(self, chosen: list[int], vector: int, about: dict[str, Any], data: st.DataObject) -> None:
        """A batch, in which an image may come several times, some of it older than what is held."""
        batch: list[tuple[bytes, Row]] = []
        for at, number in enumerate(chosen):
            key, drawn = IDS[number], (vector + at) % len(POOL)
            self.version += 1
            version = (
                self.version if data.draw(st.integers(0, 5)) else data.draw(st.integers(0, self.version))
            )
            row = (version, drawn, about if at % 2 else {**about, "key": f"k{number}"})
            if key in self.mine:
                batch.append((key, row))
            else:
                self.foreign[key] = row
        if not batch:
            return
        # Of equal versions in one batch the first one counts.
        for key, row in batch:
            self.model.upsert(key, row)
        self.history += batch
        self.index.apply(upserts_of(batch))

    @rule(chosen=batches, versioned=st.booleans())
    def delete(self, chosen: list[int], versioned: bool) -> None:
        keys = [IDS[number] for number in chosen if IDS[number] in self.mine]
        for number in chosen:
            self.foreign.pop(IDS[number], None)
        if not keys:
            return
        self.version += 1
        versions = np.full(len(keys), self.version) if versioned else None
        for key in keys:
            self.model.delete(key, self.version if versioned else None)
        self.history += [(key, self.version) for key in keys] if versioned else []
        self.index.apply(None, Deletes(as_ids(keys), versions))

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Changes that were told before come again, in another order."""
        again = data.draw(st.lists(st.sampled_from(self.history), min_size=1, max_size=8))
        for key, change in again:
            if isinstance(change, int):
                self.model.delete(key, change)
                self.index.apply(None, Deletes(as_ids([key]), np.array([change])))
            else:
                self.model.upsert(key, change)
                self.index.apply(upserts_of([(key, change)]))

    @rule(threads=st.integers(1, 2))
    def maintain(self, threads: int) -> None:
        self.index.maintain(threads)

    @rule()
    def note(self) -> None:
        """The moment of which the next generation will be."""
        self.snapshot = dict(self.model.rows), len(self.history)

    @rule(segments=st.integers(1, 3), family=st.integers(0, 5))
    def fold(self, segments: int, family: int) -> None:
        """A generation of an earlier moment is built, opened, and brought to the present as the change log does."""
        rows, seen = self.snapshot or (dict(self.model.rows), len(self.history))
        world = {**rows, **self.foreign}
        self.generation += 1
        bases = []
        for number in range(segments):
            own = buckets_of_shard(number, segments)
            directory = self.folder / f"{self.generation}-{number}"
            self.write(directory, {k: r for k, r in world.items() if bucket(k) in own}, family + number)
            if own.stop > self.buckets.start and own.start < self.buckets.stop:
                bases.append(Base.of(open_segment(directory, DIMENSION), self.buckets))
        successor = self.opened(bases)
        touched = {key for key, _ in self.history[max(0, seen - 5) :]} | (
            rows.keys() ^ self.model.rows.keys()
        )
        news = [(key, self.model.rows[key]) for key in touched if key in self.model.rows]
        gone = [key for key in touched if key not in self.model.rows]
        successor.apply(upserts_of(news) if news else None, Deletes(as_ids(gone)) if gone else None)
        self.index.close()
        self.index, self.snapshot = successor, None
        self.model.removed = {key: rows[key][0] for key in gone if key in rows}

    def write(self, directory: Path, rows: dict[bytes, Row], family: int) -> None:
        directory.mkdir()
        keys = sorted(rows, key=lambda key: key[::-1])  # any order is allowed
        ids = as_ids(keys)
        order = held_out_last(ids)
        keys = [keys[at] for at in order.tolist()]
        codes = half.encode(unit(POOL[[rows[key][1] for key in keys]]))
        codes.tofile(directory / VECTORS)
        ann = None
        if self.families and keys:
            name = self.families[family % len(self.families)]
            parameters = Parameters(hnsw=SPEC)
            ann, _ = build_and_tune(name, codes, 0.95, parameters)
        write_segment(
            directory,
            ids=as_ids(keys),
            versions=np.array([rows[key][0] for key in keys], np.int64),
            buckets=buckets_of(as_ids(keys)),
            attributes=AttributeColumns.build(fields(rows[key][2]) for key in keys),
            ann=ann,
        )

    @invariant()
    def holds_as_many_as_it_should(self) -> None:
        if hasattr(self, "index"):
            assert len(self.index) == len(self.model.rows)

    def look(self, query: int, ask: dict[str, Any], **more: Any) -> Looked:
        tree = None if ask["filter"] is None else parse_filter(ask["filter"])
        exclude = tuple(IDS[number] for number in ask["exclude"])
        return self.index.look(
            POOL[query : query + 1], Ask(ask["k"], tree, exclude, ask["min_score"], **more)
        )

    def matching(self, ask: dict[str, Any]) -> dict[bytes, Row]:
        tree = None if ask["filter"] is None else parse_filter(ask["filter"])
        return {key: row for key, row in self.model.rows.items() if tree is None or matches(tree, row[2])}

    def candidates(self, query: int, ask: dict[str, Any]) -> list[tuple[bytes, float]]:
        """All hits there are, best first."""
        out = {IDS[number] for number in ask["exclude"]}
        least = -np.inf if ask["min_score"] is None else ask["min_score"]
        scores = scores_of(self.matching(ask), query)
        kept = [(key, score) for key, score in scores.items() if key not in out and score >= least]
        return sorted(kept, key=lambda hit: (-hit[1], hit[0]))

    @rule(query=poolings, ask=asked)
    def search(self, query: int, ask: dict[str, Any]) -> None:
        looked = self.look(query, ask)
        found = hits_of(looked)
        self.agree(found, self.candidates(query, ask), ask["k"], exact=not self.families)
        for key, version in zip((key for key, _ in found), looked.hits.versions[0].tolist(), strict=False):
            assert version == self.model.rows[key][0]
        assert looked.matches == len(self.matching(ask))

    def agree(
        self, found: list[tuple[bytes, float]], wanted: list[tuple[bytes, float]], k: int, *, exact: bool
    ) -> None:
        if exact:
            assert found == wanted[:k]
            return
        true = dict(wanted)
        assert all(true.get(key) == score for key, score in found), (
            "a hit that is none, or with a wrong score"
        )
        assert len({key for key, _ in found}) == len(found)
        assert found == sorted(found, key=lambda hit: (-hit[1], hit[0]))
        if self.enough(wanted):
            assert len(found) == min(k, len(wanted))

    def enough(self, wanted: list[tuple[bytes, float]]) -> bool:
        return True

    @rule(ask=asked, field=names)
    def facet(self, ask: dict[str, Any], field: str) -> None:
        counts: dict[Any, int] = {}
        for _, _, about in self.matching(ask).values():
            for key in {key_of(value) for value in values_of(about, field)}:
                counts[key] = counts.get(key, 0) + 1
        assert dict(self.look(0, ask, facets=(field,)).facets[field]) == counts

    @rule(query=poolings, ask=asked, field=names, size=st.integers(1, 3))
    def group(self, query: int, ask: dict[str, Any], field: str, size: int) -> None:
        seen: dict[Any, int] = {}
        wanted = []
        for key, score in self.candidates(query, ask):
            value = one_value(self.model.rows[key][2], field, min)
            seen[value] = seen.get(value, 0) + 1
            if value is None or seen[value] <= size:
                wanted.append((key, score))
        looked = self.look(query, ask, group=Grouping(field, size))
        found = hits_of(looked)
        if self.families:
            true = dict(self.candidates(query, ask))
            assert all(true.get(key) == score for key, score in found)
            kept = list(looked.keys)
            assert all(key is None or kept.count(key) <= size for key in kept)
            assert len(found) == min(ask["k"], len(wanted))
        else:
            assert found == wanted[: ask["k"]]
        assert list(looked.keys) == [one_value(self.model.rows[key][2], field, min) for key, _ in found]

    @rule(query=poolings, ask=asked, field=names, direction=st.sampled_from(["asc", "desc"]))
    def sort(self, query: int, ask: dict[str, Any], field: str, direction: Any) -> None:
        """Page by page, to the end, everything comes once and in order."""
        pick = min if direction == "asc" else max
        values = {key: one_value(self.model.rows[key][2], field, pick) for key in self.model.rows}
        wanted = dict(self.candidates(query, ask))
        having = sorted(key for key in wanted if values[key] is not None)
        having.sort(key=lambda key: rank_of(values[key]), reverse=direction == "desc")
        lacking = sorted(key for key in wanted if values[key] is None)
        found: list[tuple[bytes, float]] = []
        after = None
        while True:
            looked = self.look(query, ask, sort=Sorting(field, direction, after))
            page = hits_of(looked)
            assert list(looked.keys) == [values[key] for key, _ in page]
            found += page
            if len(page) < ask["k"]:
                break
            after = looked.keys[-1], page[-1][0]
        assert found == [(key, wanted[key]) for key in [*having, *lacking]]


class ApproximateEngine(Engine):
    """With graphs over bases and fresh rows from the fifth row on."""

    flat_below = 4
    families = FAMILIES


def hits_of(looked: Looked) -> list[tuple[bytes, float]]:
    count = int(looked.hits.counts[0])
    keys = [one.tobytes() for one in looked.hits.ids[0, :count]]
    return list(zip(keys, looked.hits.scores[0, :count].tolist(), strict=True))


def bucket(key: bytes) -> int:
    return int(buckets_of(as_ids([key]))[0])


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TestEngine = Engine.TestCase
TestEngine.settings = bounded(40)
TestApproximateEngine = ApproximateEngine.TestCase
TestApproximateEngine.settings = bounded(40)
