"""What a search tells of the way it went is the way it went."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.vectors import clustered

from visualindex.ann import Ask, Base, ShardIndex, Sorting, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.changes import Upserts
from visualindex.ann.families import Effort, Parameters, build_ann
from visualindex.ann.planning import Way
from visualindex.filters import Filter, parse_filter
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec

ROWS, DIMENSION = 12_000, 16
EFFORTS = {
    "hnsw-fp16": Effort(ef_search=32),
    "ivf-sq8": Effort(nprobe=4, rescore=2),
    "rabitq": Effort(nprobe=4, rescore=4),
}
VECTORS = clustered(ROWS, DIMENSION, seed=0, clusters=60)
QUERY = clustered(1, DIMENSION, seed=1, clusters=60)
FAR = np.argsort(np.argsort(VECTORS @ QUERY[0]))
LUCK = np.random.default_rng(2).permutation(ROWS)


def about() -> list[dict[str, Any]]:
    """How far each row is from the query, as a rank that grows with nearness, and a number drawn at random."""
    pairs = zip(FAR.tolist(), LUCK.tolist(), strict=True)
    return [{"metadata": {"far": far, "luck": luck}} for far, luck in pairs]


def below(field: str, count: int) -> Filter:
    return parse_filter({"range": {f"metadata.{field}": {"lt": count}}})


Opened = Callable[[str], ShardIndex]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The shard over a segment of a family; "flat" has no index."""
    codes = half.encode(VECTORS)
    ids = np.random.default_rng(3).integers(0, 256, (ROWS, 16)).astype(np.uint8)
    attributes = AttributeColumns.build(fields(one) for one in about())
    made: dict[str, ShardIndex] = {}

    def index(family: str) -> ShardIndex:
        if family in made:
            return made[family]
        folder: Path = tmp_path_factory.mktemp(family)
        codes.tofile(folder / "vectors.f16")
        ann = None
        if family != "flat":
            ann = build_ann(family, codes, Parameters(HnswSpec(m=8, ef_construction=32)))
            ann.effort = EFFORTS[family]
        write_segment(
            folder,
            ids=ids,
            versions=np.arange(ROWS),
            buckets=buckets_of(ids),
            attributes=attributes,
            ann=ann,
        )
        base = Base.of(open_segment(folder, DIMENSION), range(BUCKETS))
        made[family] = ShardIndex(
            DIMENSION, flat_below=1000, hnsw=HnswSpec(), memory_limit=1 << 30, bases=[base]
        )
        return made[family]

    return index


def way(index: ShardIndex, ask: Ask, part: int = 0) -> Way:
    """The way told; where it is an exact one, the hits are the exact ones."""
    looked = index.look(QUERY, ask)
    told = looked.plans[part].way
    if told not in (Way.INDEX, Way.POST_FILTERED, Way.FILTERED_INDEX):
        exact = index.look(QUERY, ask, exact=True)
        assert looked.hits.ids.tolist() == exact.hits.ids.tolist()
    return told


@pytest.mark.parametrize(
    ("family", "tree", "k", "expected"),
    [
        ("flat", None, 10, Way.SCAN),
        ("flat", below("luck", 6000), 10, Way.SURVIVORS),
        ("hnsw-fp16", None, 10, Way.INDEX),
        ("hnsw-fp16", below("luck", 0), 10, Way.NOTHING),
        ("hnsw-fp16", below("luck", 50), 10, Way.SURVIVORS),
        ("hnsw-fp16", None, ROWS // 4, Way.SCAN),
        ("hnsw-fp16", below("luck", 11_000), 10, Way.POST_FILTERED),
        ("hnsw-fp16", below("far", 11_000), 10, Way.FILTERED_INDEX),
        ("hnsw-fp16", below("luck", 6000), 10, Way.FILTERED_INDEX),
        ("hnsw-fp16", below("luck", 6000), 1000, Way.SURVIVORS),
        ("hnsw-fp16", below("far", 7000), 10, Way.INDEX_THEN_SCAN),
        ("ivf-sq8", None, 10, Way.INDEX),
        ("ivf-sq8", below("luck", 11_000), 10, Way.FILTERED_INDEX),
        ("ivf-sq8", below("luck", 6000), 10, Way.FILTERED_INDEX),
        ("ivf-sq8", below("luck", 6000), 1000, Way.SURVIVORS),
        ("ivf-sq8", below("far", 6000), 10, Way.INDEX_THEN_SCAN),
        ("rabitq", below("far", 6000), 10, Way.INDEX_THEN_SCAN),
    ],
)
def test_the_way_through_a_segment(
    opened: Opened, family: str, tree: Filter | None, k: int, expected: Way
) -> None:
    assert way(opened(family), Ask(k, tree)) is expected


def test_what_is_sorted_has_matches_or_nothing(opened: Opened) -> None:
    index, sort = opened("hnsw-fp16"), Sorting("metadata.luck")
    for tree, expected in ((below("luck", 6000), Way.SURVIVORS), (below("luck", 0), Way.NOTHING)):
        assert index.look(QUERY, Ask(10, tree, sort=sort)).plans[0].way is expected


GRAPH_ROWS, TAIL_ROWS = 6000, 400


def fresh(ef_search: int) -> ShardIndex:
    """Rows of which the last ones, `luck` 10,000 and above, are in no graph."""
    hnsw = HnswSpec(m=8, ef_construction=32, ef_search=ef_search)
    index = ShardIndex(DIMENSION, flat_below=4000, hnsw=hnsw, memory_limit=1 << 30)
    ids = np.random.default_rng(3).integers(0, 256, (ROWS, 16)).astype(np.uint8)
    flat = about()
    for first, last in ((0, GRAPH_ROWS), (GRAPH_ROWS, GRAPH_ROWS + TAIL_ROWS)):
        for number in range(first, last):
            flat[number]["metadata"]["luck"] = number
        rows = slice(first, last)
        index.apply(
            Upserts(
                ids=ids[rows],
                vectors=VECTORS[rows],
                versions=np.arange(1, ROWS + 1)[rows],
                attributes=flat[rows],
            )
        )
        index.maintain()
    index.close()
    return index


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (None, Way.INDEX),
        (below("luck", GRAPH_ROWS), Way.INDEX),
        (below("luck", 0), Way.NOTHING),
        (below("luck", 3000), Way.SURVIVORS),
        (below("luck", GRAPH_ROWS - 200), Way.FILTERED_INDEX),
        (below("luck", 4500), Way.FILTERED_INDEX),
    ],
)
def test_the_way_through_fresh_rows(tree: Filter | None, expected: Way) -> None:
    assert way(fresh(32), Ask(10, tree)) is expected


def test_a_graph_that_would_be_walked_too_far_is_scanned() -> None:
    assert way(fresh(2000), Ask(10, below("luck", 4500))) is Way.INDEX_THEN_SCAN


def test_a_graph_that_has_few_of_the_matches_is_scanned() -> None:
    index = fresh(32)
    few = parse_filter({"range": {"metadata.luck": {"gte": GRAPH_ROWS - 5}}})
    assert way(index, Ask(100, few)) is Way.SURVIVORS
