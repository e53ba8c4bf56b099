"""The rows of a segment that filters leave, kept while there is room: a segment never changes, and so neither do they."""

import sys
import threading
import weakref
from collections import OrderedDict
from typing import TypeAlias

from visualindex.ann.attribute_columns import Attributes
from visualindex.ann.planning import Left, left_by
from visualindex.filters import Filter

KEPT_BYTES = 16 << 20
"""Of one process, which `footprint.SHARD_BYTES` has room for: some thousand filters that leave few rows, or the masks of
sixteen that leave many of a million."""

_OVERHEAD = 400
"""Bytes of the objects around an entry."""

_Entry: TypeAlias = "tuple[weakref.ref[Remembered], str]"


class Room:
    """What the segments of a process may keep together, however many there are: what was asked longest ago goes first.

    The arrays are held by the segments, so that they go with those. Entries of a segment that is gone take part until
    they are the oldest, which they soon are: nobody asks for them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._sizes: OrderedDict[_Entry, int] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """What is kept now, with what a segment that is gone had."""
        return self._bytes

    def used(self, entry: _Entry) -> None:
        """The entry is the youngest again, if it is kept."""
        with self._lock:
            if entry in self._sizes:
                self._sizes.move_to_end(entry)

    def keep(self, entry: _Entry, left: Left) -> None:
        """Hand the owner of the entry what to keep, and take the oldest from theirs until all fits."""
        size = _bytes(entry[1], left)
        with self._lock:
            if (
                entry in self._sizes or size > self._limit
            ):  # another thread was first, or nothing else would stay
                return
            _give(entry, left)
            self._sizes[entry] = size
            self._bytes += size
            while self._bytes > self._limit:
                oldest, freed = self._sizes.popitem(last=False)
                self._bytes -= freed
                _take(oldest)


_ROOM = Room(KEPT_BYTES)


class Remembered:
    """What `left_by` says of `rows` rows, asked for again and again by any number of threads."""

    def __init__(self, attributes: Attributes, rows: int, room: Room = _ROOM) -> None:
        self._attributes = attributes
        self._rows = rows
        self._room = room
        self._me = weakref.ref(self)
        self.kept: dict[str, Left] = {}
        """By the filter; the room alone writes to it."""

    def left_by(self, tree: Filter) -> Left:
        """The rows that pass, whose arrays are read-only."""
        # Written out and not as it is: to Python `True` and `1` are equal, to a filter they are not.
        key = repr(tree)
        if (known := self.kept.get(key)) is not None:
            self._room.used((self._me, key))
            return known
        left = left_by(self._attributes, tree, self._rows)
        for array in (left.rows, left.mask):
            if array is not None:
                array.flags.writeable = False
        self._room.keep((self._me, key), left)
        return left


def _give(entry: _Entry, left: Left) -> None:
    owner, key = entry
    if (remembered := owner()) is not None:
        remembered.kept[key] = left


def _take(entry: _Entry) -> None:
    owner, key = entry
    if (remembered := owner()) is not None:
        del remembered.kept[key]


def _bytes(key: str, left: Left) -> int:
    # Not as `sys.getsizeof` has it: of a slice of another array, as some masks are, it counts no element.
    arrays = sum(array.nbytes for array in (left.rows, left.mask) if array is not None)
    return sys.getsizeof(key) + arrays + _OVERHEAD
