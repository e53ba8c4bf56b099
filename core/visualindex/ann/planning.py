"""How a filtered search goes through the rows of one part: by the rows that pass, by the index, or by all of them."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_columns import Attributes
from visualindex.ann.codes import Mask
from visualindex.filters import Filter


class Way(Enum):
    """How candidates are found: what is planned, and what is told of a search, the way that was taken in the end."""

    NOTHING = "nothing"
    """No row passes."""
    SURVIVORS = "exact scan of the matches"
    """The rows that pass are scored, and no others."""
    SCAN = "scan"
    """Every row is scored, as there is no index over them, or most of them are wanted."""
    INDEX = "index"
    """The approximate index, unfiltered."""
    POST_FILTERED = "index, filtered afterwards"
    """The approximate index, asked for more than is wanted, as nearly every row passes."""
    FILTERED_INDEX = "filtered index"
    """The approximate index, which goes on until it has enough of the rows that pass."""
    INDEX_THEN_SCAN = "index, then exact scan of the matches"
    """The approximate index found too few of the rows that pass, or could not tell them apart: all were scored."""


class Left(NamedTuple):
    """The rows that a filter leaves of all that a part has, the dead ones among them: as a mask or as row numbers."""

    mask: Mask | None
    """bool [rows]; None with `rows`."""
    rows: NDArray[np.int64] | None
    """Ascending row numbers, int64 [m], where they were cheaper to tell than a mask."""
    least: int
    """What was estimated before looking: at least and at most so many rows."""
    most: int


@dataclass(frozen=True)
class Passing:
    """The rows of a part that a search may return: as a mask, as row numbers, or all of them."""

    count: int
    mask: Mask | None = None
    """bool [rows]; None with `rows`, or when every row passes."""
    rows: NDArray[np.int64] | None = None
    """Ascending row numbers, int64 [count], where they were cheaper to tell than a mask."""
    least: int = 0
    """What was estimated before looking: at least and at most so many rows, of those that are not dead."""
    most: int = 0


MOSTLY = 0.8
"""Share of the rows from which it is cheaper to drop hits that do not pass than to look at every row's bit."""
LISTED = 4096
"""Rows up to which a filter's matches are listed one by one: a mask over all rows would cost more than the search."""


def left_by(attributes: Attributes, tree: Filter, rows: int) -> Left:
    """The rows of the first `rows` that pass the filter."""
    least, most = attributes.estimate(tree)
    few = attributes.matching(tree, rows, LISTED) if most <= LISTED else None
    mask = attributes.mask(tree, rows) if few is None else None
    return Left(mask, few, least, most)


def everything(alive: Mask, live: int) -> Passing:
    """The rows that are `alive`, bool [rows], `live` of them."""
    return Passing(live, None if live == len(alive) else alive, least=live, most=live)


def passing(left: Left, alive: Mask, live: int) -> Passing:
    """The rows that a filter left, of those that are `alive`, bool [rows], `live` of them."""
    whole = live == len(alive)
    least, most = (left.least, left.most) if whole else living(left.least, left.most, live, len(alive))
    if left.rows is not None:
        few = left.rows if whole else left.rows[alive[left.rows]]
        return Passing(len(few), None, few, least, most)
    assert left.mask is not None  # noqa: S101 - it is one of the two
    mask = left.mask if whole else left.mask & alive
    return Passing(int(np.count_nonzero(mask)), mask, None, least, most)


def living(least: int, most: int, live: int, rows: int) -> tuple[int, int]:
    """What at least `least` and at most `most` of `rows` rows come to among the `live` ones of them.

    As many as their share, give or take three standard deviations of a draw without replacement: the values of rows are
    counted, dead or alive, and whether a row died is not asked of each. Never less or more than there can be.
    """
    share = live / rows if rows else 0.0
    low, high = (
        (count * share, 3 * math.sqrt(count * share * (1 - share) * (rows - count) / max(1, rows - 1)))
        for count in (min(least, rows), min(most, rows))
    )
    return (
        max(0, least - (rows - live), math.floor(low[0] - low[1])),
        min(most, live, math.ceil(high[0] + high[1])),
    )


def way(found: Passing, rows: int, k: int, *, indexed: bool, exact_up_to: int) -> Way:
    """The cheapest way that gives the right answer, of a part of `rows` rows."""
    if not found.count:
        return Way.NOTHING
    few = not indexed or found.count <= max(exact_up_to, 4 * k)
    if found.rows is not None or (found.count < rows and few):
        return Way.SURVIVORS
    if not indexed or found.count <= 4 * k:
        return Way.SCAN
    if found.count == rows:
        return Way.INDEX
    return Way.POST_FILTERED if found.count >= MOSTLY * rows else Way.FILTERED_INDEX
