"""What an index holds is told row by row, and what it should hold can be put right whatever it held."""

import numpy as np
import pytest

from visualindex.ann import Deletes, ShardIndex, decode
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import BUCKETS, buckets_of

from .test_ann_graph import clustered, numbered, shard, upserts


def held(index: ShardIndex, buckets: np.ndarray | None = None) -> dict[bytes, tuple[int, int, bytes]]:
    """Version, bucket and code of each image."""
    return {
        key.tobytes(): (int(version), int(bucket), code.tobytes())
        for rows in index.snapshot().held(buckets)
        for key, version, bucket, code in zip(rows.ids, rows.versions, rows.buckets, rows.codes, strict=True)
    }


def test_everything_that_can_be_found_is_told_once_whether_a_graph_covers_it_or_not() -> None:
    index = shard(flat_below=200)
    vectors = clustered(600)
    index.apply(upserts(vectors[:500]))
    index.maintain()
    index.apply(upserts(vectors[500:], 500))
    index.apply(None, Deletes(numbered(10, 5)))
    index.apply(upserts(vectors[20:21], 20, version=2))
    told = held(index)
    assert len(told) == len(index) == 595
    assert told[numbered(20, 1).tobytes()][0] == 2
    for number in (0, 300, 599):
        key = numbered(number, 1)
        _, bucket, code = told[key.tobytes()]
        assert bucket == buckets_of(key)[0]
        assert np.allclose(decode(np.frombuffer(code, np.uint8)[None])[0], vectors[number], atol=1e-3)
    some = np.zeros(BUCKETS, np.bool_)
    some[:512] = True
    assert held(index, some) == {key: row for key, row in told.items() if row[1] < 512}
    index.close()


def test_mending_replaces_whatever_was_held_or_removed_before() -> None:
    index = shard(flat_below=1000)
    vectors = clustered(4)
    index.apply(upserts(vectors, version=5))
    before = held(index)
    index.apply(None, Deletes(numbered(0, 1)))
    index.apply(upserts(vectors[1:2], 1, version=9))
    index.mend(numbered(2, 1), upserts(vectors[3:], 2, version=5))
    assert held(index) != before
    index.mend(numbered(0, 4), upserts(vectors, version=5))
    assert held(index) == before
    index.mend(numbered(3, 2), upserts(vectors[:0]))
    assert held(index).keys() == {numbered(n, 1).tobytes() for n in range(3)}
    assert index.apply(upserts(vectors[:1], version=5)).stale == 1


def test_what_does_not_fit_is_forgotten_and_said() -> None:
    index = shard(flat_below=10_000, memory_limit=1_000_000)
    index.apply(upserts(clustered(100)))
    with pytest.raises(ProblemError) as refused:
        index.mend(numbered(0, 3000), upserts(clustered(3000), version=2))
    assert refused.value.type is ProblemType.STORAGE_FULL
    assert len(index) == 0
