"""The rows of a segment that filters leave, kept while there is room: a segment never changes, and so neither do they."""

import sys
import threading
from collections import OrderedDict

import numpy as np

from visualindex.ann.attribute_columns import Attributes
from visualindex.ann.planning import Left, left_by
from visualindex.filters import Filter

KEPT_BYTES = 16 << 20
"""Of one segment: some thousand filters that leave few rows, or the masks of a few that leave many of a million."""


class Remembered:
    """What `left_by` says of `rows` rows, asked for again and again by any number of threads."""

    def __init__(self, attributes: Attributes, rows: int, limit: int = KEPT_BYTES) -> None:
        self._attributes = attributes
        self._rows = rows
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[str, Left] = OrderedDict()
        self._lock = threading.Lock()

    def left_by(self, tree: Filter) -> Left:
        """The rows that pass, whose arrays are read-only."""
        # Written out and not as it is: to Python `True` and `1` are equal, to a filter they are not.
        key = repr(tree)
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        left = left_by(self._attributes, tree, self._rows)
        for array in (left.rows, left.mask):
            if array is not None:
                array.flags.writeable = False
        self._keep(key, left)
        return left

    def _keep(self, key: str, left: Left) -> None:
        size = _bytes(key, left)
        with self._lock:
            if (
                key in self._kept or size > self._limit
            ):  # another thread asked for the same, or nothing else would stay
                return
            self._kept[key] = left
            self._bytes += size
            while self._bytes > self._limit:
                self._bytes -= _bytes(*self._kept.popitem(last=False))


def _bytes(key: str, left: Left) -> int:
    arrays = (array for array in (left.rows, left.mask) if array is not None)
    return sys.getsizeof(key) + sum(map(np.ndarray.__sizeof__, arrays)) + 200
