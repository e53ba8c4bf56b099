"""Digests of buckets: equal for equal rows in any order, and different for any difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from visualindex.checking import BucketDigests
from visualindex.identity import BUCKETS, buckets_of

Rows = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]


def rows(count: int, seed: int = 0, width: int = 20) -> Rows:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 256, (count, 16), np.uint8)
    return ids, rng.integers(1, 1000, count), rng.integers(0, 256, (count, width), np.uint8)


def digests(some: Rows, *, order: NDArray[np.int64] | None = None, vectors: bool = True) -> BucketDigests:
    made = BucketDigests()
    places = np.arange(len(some[0])) if order is None else order
    for part in np.array_split(places, 3):
        ids, versions, codes = (column[part] for column in some)
        made.add(ids, versions, buckets_of(ids), codes if vectors else None)
    return made


@given(st.integers(0, 40), st.randoms())
def test_the_order_and_the_parts_in_which_rows_come_do_not_matter(count: int, random: object) -> None:
    order = np.arange(count)
    random.shuffle(order)  # type: ignore[attr-defined]
    some = rows(count)
    assert digests(some).differing(digests(some, order=order), range(BUCKETS)) == []
    assert digests(some).rows == count


@given(st.integers(1, 30), st.data())
def test_any_change_of_a_row_is_seen_in_its_bucket_alone(count: int, data: st.DataObject) -> None:
    some = rows(count)
    row = data.draw(st.integers(0, count - 1))
    what = data.draw(st.sampled_from(["version", "vector", "gone"]))
    ids, versions, codes = (column.copy() for column in some)
    if what == "version":
        versions[row] += data.draw(st.integers(1, 5))
    elif what == "vector":
        codes[row, data.draw(st.integers(0, codes.shape[1] - 1))] ^= data.draw(st.integers(1, 255))
    else:
        ids, versions, codes = (np.delete(column, row, axis=0) for column in some)
    bucket = int(buckets_of(some[0][row : row + 1])[0])
    assert digests((ids, versions, codes)).differing(digests(some), range(BUCKETS)) == [bucket]
    unseen = digests((ids, versions, codes), vectors=False).differing(
        digests(some, vectors=False), range(BUCKETS)
    )
    assert unseen == ([] if what == "vector" else [bucket])


def test_two_rows_that_swap_their_vectors_are_seen() -> None:
    ids, versions, codes = rows(2)
    versions[:] = 7
    assert digests((ids, versions, codes[::-1].copy())).differing(
        digests((ids, versions, codes)), range(BUCKETS)
    )


def test_only_the_buckets_that_are_asked_for_count() -> None:
    ids, versions, codes = rows(1)
    bucket = int(buckets_of(ids)[0])
    full, empty = digests((ids, versions, codes)), BucketDigests()
    assert full.differing(empty, range(bucket, bucket + 1)) == [bucket]
    assert full.differing(empty, range(bucket)) == []


def test_digests_are_read_as_they_were_written() -> None:
    made = digests(rows(50))
    assert made.differing(BucketDigests.from_json(made.to_json()), range(BUCKETS)) == []
    with pytest.raises(ValueError, match="not of 1024"):
        BucketDigests.from_json({"counts": "AAAAAAAAAAA=", "digests": "AAAAAAAAAAA="})
