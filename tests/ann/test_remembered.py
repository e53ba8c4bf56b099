"""What filters leave of a segment is looked for once and kept, within bounds."""

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import Fields, fields
from visualindex.ann.planning import LISTED, Left
from visualindex.ann.remembered import Remembered, Room
from visualindex.filters import Eq, Exists, Filter, Not

ROWS = 6000
RARE, COMMON = Eq("category", "rare"), Eq("category", "common")


def columns() -> AttributeColumns:
    """Of 6,000 rows every hundredth is rare; `metadata.n` is 1 in even rows and true in odd ones."""
    return AttributeColumns.build(flat(row) for row in range(ROWS))


def flat(row: int) -> Fields:
    category = "common" if row % 100 else "rare"
    return fields({"category": category, "key": f"k{row}", "metadata": {"n": bool(row % 2) or 1}})


def rows_of(left: Left) -> Sequence[int]:
    rows = left.rows if left.mask is None else np.flatnonzero(left.mask)
    assert rows is not None
    return [int(row) for row in rows]


@pytest.mark.parametrize("tree", [RARE, COMMON, Not(RARE), Exists("key")])
def test_a_filter_that_is_asked_again_has_the_very_same_rows(tree: Filter) -> None:
    remembered = Remembered(columns(), ROWS)
    first = remembered.left_by(tree)
    assert rows_of(first) == np.flatnonzero(columns().mask(tree, ROWS)).tolist()
    assert remembered.left_by(tree) is first


def test_few_rows_are_listed_and_many_are_a_mask() -> None:
    remembered = Remembered(columns(), ROWS)
    rare, common = remembered.left_by(RARE), remembered.left_by(COMMON)
    assert rare.rows is not None
    assert len(rare.rows) == 60
    assert common.mask is not None
    assert np.count_nonzero(common.mask) > LISTED


def test_nobody_can_change_what_others_will_be_told() -> None:
    remembered = Remembered(columns(), ROWS)
    for array in (remembered.left_by(RARE).rows, remembered.left_by(COMMON).mask):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_true_is_not_taken_for_one() -> None:
    remembered = Remembered(columns(), ROWS)
    ones, trues = (rows_of(remembered.left_by(Eq("metadata.n", value))) for value in (1, True))
    assert ones == list(range(0, ROWS, 2))
    assert trues == list(range(1, ROWS, 2))


def test_what_was_asked_longest_ago_makes_room() -> None:
    remembered = Remembered(columns(), ROWS, Room(4000))
    first = remembered.left_by(RARE)
    for row in range(10):
        assert rows_of(remembered.left_by(Eq("key", f"k{row}"))) == [row]
        assert remembered.left_by(RARE) is first
    for row in range(20):
        remembered.left_by(Eq("key", f"k{row}"))
    assert remembered.left_by(RARE) is not first


def test_what_is_too_large_to_keep_is_told_all_the_same() -> None:
    remembered = Remembered(columns(), ROWS, Room(1000))
    few = Eq("key", "k7")
    told = remembered.left_by(few)
    assert len(rows_of(remembered.left_by(COMMON))) == ROWS - 60
    assert len(rows_of(remembered.left_by(COMMON))) == ROWS - 60
    assert remembered.left_by(few) is told


def test_many_threads_are_told_the_same() -> None:
    remembered = Remembered(columns(), ROWS, Room(20_000))
    asked = [Eq("key", f"k{n % 50}") if n % 3 else RARE for n in range(600)]
    with ThreadPoolExecutor(8) as threads:
        told = [rows_of(left) for left in threads.map(remembered.left_by, asked)]
    expected = {tree: np.flatnonzero(columns().mask(tree, ROWS)).tolist() for tree in set(asked)}
    assert told == [expected[tree] for tree in asked]


def test_the_segments_of_a_process_share_what_there_is_room_for() -> None:
    room = Room(40_000)
    many = [Remembered(columns(), ROWS, room) for _ in range(16)]
    for remembered in many * 2:
        remembered.left_by(COMMON)
        for row in range(3):
            remembered.left_by(Eq("key", f"k{row}"))
        assert room.bytes <= 40_000
    kept = sum(left.mask.nbytes for one in many for left in one.kept.values() if left.mask is not None)
    assert kept == ROWS * sum(COMMON.__repr__() in one.kept for one in many)
    assert 20_000 < kept <= 40_000


def test_all_segments_have_one_room_unless_they_are_told_of_another() -> None:
    first, second = Remembered(columns(), ROWS), Remembered(columns(), ROWS)
    assert first._room is second._room


def test_a_segment_that_is_gone_makes_room() -> None:
    room = Room(2 * ROWS)
    gone = Remembered(columns(), ROWS, room)
    mask = weakref.ref(gone.left_by(COMMON).mask)
    del gone
    assert mask() is None
    there = Remembered(columns(), ROWS, room)
    told = there.left_by(COMMON)
    for row in range(10):
        there.left_by(Eq("key", f"k{row}"))
        assert there.left_by(COMMON) is told
