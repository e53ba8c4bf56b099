"""What a filter is estimated to leave is told of the rows that are alive, whatever else a part holds."""

import numpy as np
import pytest

from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.planning import Passing, left_by, living, passing
from visualindex.filters import Eq

ROWS = 20_000


def estimated(alive: np.ndarray[tuple[int], np.dtype[np.bool_]], category: str) -> Passing:
    """Of 20,000 rows half are `common`, a hundredth `rare`."""
    names = ("rare" if row % 100 == 0 else "common" if row % 2 else "other" for row in range(ROWS))
    columns = AttributeColumns.build(fields({"category": name}) for name in names)
    return passing(left_by(columns, Eq("category", category), ROWS), alive, int(np.count_nonzero(alive)))


@pytest.mark.parametrize(("category", "spread"), [("common", 220), ("rare", 45)])
def test_where_half_of_a_segment_is_dead_the_estimate_agrees_with_what_is_found(
    category: str, spread: int
) -> None:
    found = estimated(np.random.default_rng(0).random(ROWS) < 0.5, category)
    assert found.least <= found.count <= found.most
    assert found.most - found.least <= spread


def test_where_no_row_is_dead_the_estimate_is_what_the_values_say() -> None:
    found = estimated(np.ones(ROWS, np.bool_), "rare")
    assert (found.least, found.count, found.most) == (200, 200, 200)


def test_an_estimate_is_never_beyond_what_can_be() -> None:
    assert living(0, 0, 500, 1000) == (0, 0)
    assert living(1000, 1000, 500, 1000) == (500, 500)
    assert living(3, 3, 1, 1000) == (0, 1)
    assert living(990, 995, 990, 1000)[0] >= 980
