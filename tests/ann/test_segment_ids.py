"""Rows of a segment are found by their images' ids, whatever ids callers choose."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from visualindex.ann import codes as half
from visualindex.ann import open_segment, write_segment
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.segment import VECTORS, Segment
from visualindex.identity import buckets_of

ROWS, DIMENSION = 3_000, 8
ABOUT = {"category": None, "key": None, "metadata": {}}


def counted(rows: int, first: int = 0) -> NDArray[np.uint8]:
    """As callers make them who count: all share their first half."""
    ids = np.zeros((rows, 16), np.uint8)
    ids[:, 8:] = np.arange(first, first + rows, dtype=">u8")[:, None].view(np.uint8)
    return ids


def halves(rows: int) -> NDArray[np.uint8]:
    """A few first halves, each with many second ones."""
    ids = counted(rows)
    ids[:, 7] = np.random.default_rng(3).integers(0, 5, rows)
    return ids


def drawn(rows: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (rows, 16), np.uint8)


def written(folder: Path, ids: NDArray[np.uint8]) -> Segment:
    vectors = np.random.default_rng(7).standard_normal((len(ids), DIMENSION)).astype(np.float32)
    half.encode(vectors).tofile(folder / VECTORS)
    attributes = AttributeColumns.build(fields(ABOUT) for _ in range(len(ids)))
    versions = np.ones(len(ids), np.int64)
    write_segment(
        folder, ids=ids, versions=versions, buckets=buckets_of(ids), attributes=attributes, ann=None
    )
    return open_segment(folder, DIMENSION)


@pytest.mark.parametrize("ids", [counted(2 * ROWS), halves(2 * ROWS), drawn(2 * ROWS)])
def test_every_row_is_found_and_no_other(ids: NDArray[np.uint8], tmp_path: Path) -> None:
    ids = ids[np.random.default_rng(9).permutation(len(ids))]
    segment = written(tmp_path, ids[:ROWS])
    expected = np.concatenate([np.arange(ROWS), np.full(ROWS, -1)])
    assert np.array_equal(segment.find(ids), expected)


def test_nothing_is_found_in_a_segment_without_rows(tmp_path: Path) -> None:
    assert written(tmp_path, counted(0)).find(counted(3)).tolist() == [-1, -1, -1]
