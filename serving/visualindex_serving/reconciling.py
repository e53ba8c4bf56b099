"""What of a generation's segments is still so, by comparing them with every row of the catalog.

Needed where the change log no longer reaches back to the generation: images and versions decide, vectors need not.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import Base
from visualindex.catalog import Rows


class Reconciled:
    """Takes all rows of the catalog, part by part: nothing is held of them but which rows of the bases they were."""

    def __init__(self, bases: Sequence[Base]) -> None:
        self._bases = bases
        self._seen = [np.zeros(base.segment.rows, np.bool_) for base in bases]

    def rest(self, rows: Rows) -> tuple[Rows, NDArray[np.uint8]]:
        """Those rows that no base holds in just this version; and the ids of those of them that one holds in another.

        After a restore the other version may well be the higher one.
        """
        missing, other = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        for base, seen in zip(self._bases, self._seen, strict=True):
            places = base.find(rows.ids)
            here = np.flatnonzero(places >= 0)
            seen[places[here]] = True
            same = base.segment.versions[places[here]] == rows.versions[here]
            missing[here[same]] = False
            other[here[~same]] = True
        return rows.chosen(np.flatnonzero(missing)), rows.ids[other]

    def gone(self, piece: int) -> Iterator[NDArray[np.uint8]]:
        """Ids of rows of the bases that the catalog does not have, in pieces: uint8 [at most `piece`, 16]."""
        for base, seen in zip(self._bases, self._seen, strict=True):
            lost = np.flatnonzero(base.alive & ~seen)
            for first in range(0, len(lost), piece):
                yield base.segment.ids[lost[first : first + piece]]
