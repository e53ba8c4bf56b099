"""What of a generation's segments is still so, by comparing them with every row of the catalog.

Needed where the change log no longer reaches back to the generation: images and versions decide, vectors need not.
"""

from collections.abc import Sequence

import numpy as np

from visualindex.ann import Base
from visualindex.catalog import Rows


class Reconciled:
    """Takes all rows of the catalog, part by part."""

    def __init__(self, bases: Sequence[Base]) -> None:
        self._bases = bases
        self._kept = [np.zeros(base.segment.rows, np.bool_) for base in bases]

    def rest(self, rows: Rows) -> Rows:
        """Those rows that no base holds in just this version."""
        missing = np.ones(len(rows), np.bool_)
        for base, kept in zip(self._bases, self._kept, strict=True):
            places = base.find(rows.ids)
            here = np.flatnonzero(places >= 0)
            same = here[base.segment.versions[places[here]] == rows.versions[here]]
            kept[places[same]] = True
            missing[same] = False
        return rows.chosen(np.flatnonzero(missing))

    def bases(self) -> list[Base]:
        """The bases with only those of their rows that the catalog has too."""
        pairs = zip(self._bases, self._kept, strict=True)
        return [Base(base.segment, kept, int(np.count_nonzero(kept))) for base, kept in pairs]
