"""How a filtered search goes through the rows of one part: by the rows that pass, by the index, or by all of them."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_columns import Attributes
from visualindex.ann.codes import Mask
from visualindex.filters import Filter


class Way(Enum):
    """How candidates are found."""

    NOTHING = "nothing"
    """No row passes."""
    SURVIVORS = "exact scan of the matches"
    """The rows that pass are scored, and no others."""
    SCAN = "scan"
    """Every row is scored, as there is no index over them."""
    INDEX = "index"
    """The approximate index, unfiltered."""
    POST_FILTERED = "index, filtered afterwards"
    """The approximate index, asked for more than is wanted, as nearly every row passes."""
    FILTERED_INDEX = "filtered index"
    """The approximate index, which sees the rows that pass alone."""


@dataclass(frozen=True)
class Passing:
    """The rows of a part that a search may return: as a mask, as row numbers, or all of them."""

    count: int
    mask: Mask | None = None
    """bool [rows]; None with `rows`, or when every row passes."""
    rows: NDArray[np.int64] | None = None
    """Ascending row numbers, int64 [count], where they were cheaper to tell than a mask."""
    least: int = 0
    """What was estimated before looking: at least and at most so many rows."""
    most: int = 0


MOSTLY = 0.8
"""Share of the rows from which it is cheaper to drop hits that do not pass than to look at every row's bit."""
LISTED = 4096
"""Rows up to which a filter's matches are listed one by one: a mask over all rows would cost more than the search."""


def passing(attributes: Attributes, tree: Filter | None, alive: Mask, live: int) -> Passing:
    """The rows, of those `alive` (bool [rows], `live` of them), that pass the filter."""
    rows = len(alive)
    if tree is None:
        return Passing(live, None if live == rows else alive, least=live, most=live)
    least, most = attributes.estimate(tree)
    if most <= LISTED:
        few = attributes.matching(tree, rows, LISTED)
        if few is not None:
            few = few[alive[few]]
            return Passing(len(few), None, few, least, most)
    mask = attributes.mask(tree, rows)
    mask &= alive
    return Passing(int(np.count_nonzero(mask)), mask, least=least, most=most)


def way(found: Passing, rows: int, k: int, *, indexed: bool, exact_up_to: int) -> Way:
    """The cheapest way that gives the right answer, of a part of `rows` rows."""
    if not found.count:
        return Way.NOTHING
    if found.rows is not None or (found.count < rows and found.count <= max(exact_up_to, 4 * k)):
        return Way.SURVIVORS
    if not indexed or found.count <= 4 * k:
        return Way.SCAN
    if found.count == rows:
        return Way.INDEX
    return Way.POST_FILTERED if found.count >= MOSTLY * rows else Way.FILTERED_INDEX
