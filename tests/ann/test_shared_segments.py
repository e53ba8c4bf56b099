"""After a change of the number of shards, several shards stand on one segment: each counts its own part of it."""

from pathlib import Path

import numpy as np
import pytest

from visualindex.ann import Base, ShardIndex, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.segment import VECTORS, Segment
from visualindex.errors import ProblemError
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec

ROWS, DIMENSION = 3_000, 8
THIRDS = [range(341), range(341, 683), range(683, BUCKETS)]


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    chance = np.random.default_rng(2)
    ids = chance.integers(0, 256, (ROWS, 16), np.uint8)
    half.encode(chance.standard_normal((ROWS, DIMENSION)).astype(np.float32)).tofile(tmp_path / VECTORS)
    about = AttributeColumns.build(fields({"category": "a"}) for _ in range(ROWS))
    write_segment(
        tmp_path,
        ids=ids,
        versions=np.ones(ROWS, np.int64),
        buckets=buckets_of(ids),
        attributes=about,
        ann=None,
    )
    return open_segment(tmp_path, DIMENSION)


def index(base: Base, limit: int) -> ShardIndex:
    return ShardIndex(DIMENSION, flat_below=8, hnsw=HnswSpec(), memory_limit=limit, bases=[base])


def test_the_parts_of_a_segment_come_to_the_whole(segment: Segment) -> None:
    parts = [Base.of(segment, buckets).memory_bytes - ROWS for buckets in THIRDS]
    assert segment.memory_bytes - 3 <= sum(parts) <= segment.memory_bytes
    assert max(parts) < segment.memory_bytes * 0.4


def test_a_shard_is_not_refused_for_the_rows_of_others(segment: Segment) -> None:
    limit = index(Base.of(segment, THIRDS[1]), 1 << 30).memory_bytes
    assert len(index(Base.of(segment, THIRDS[1]), limit)) > 0
    with pytest.raises(ProblemError, match="build a generation for the new number"):
        index(Base.of(segment, range(BUCKETS)), limit)


def test_rows_that_go_change_nothing_of_what_is_mapped(segment: Segment) -> None:
    base = Base.of(segment, THIRDS[0])
    assert base.without(np.flatnonzero(base.alive)[:500]).memory_bytes == base.memory_bytes
