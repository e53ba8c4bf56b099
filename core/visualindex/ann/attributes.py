"""The inverted index that turns a filter into the set of rows that pass it."""

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_colours import FIELD as COLOURS
from visualindex.ann.attribute_colours import ROW_BYTES, ColourRows, Colours, as_numbers, as_row
from visualindex.ann.attribute_trees import TreeEvaluator
from visualindex.ann.codes import Mask
from visualindex.ann.instants import Instants, instants_of, time_places, within
from visualindex.filters import Eq, Exists, In, Leaf, Prefix, Range, Scalar, Within

Key: TypeAlias = str | int | float | tuple[str, bool]
"""A value as a dictionary key; a boolean is wrapped, for `True` and `1` are one key to Python."""

Fields: TypeAlias = Mapping[str, set[Key | None]]
"""The comparable values of each dotted field of one image; None stands for an object, which equals nothing."""

_PRESENT = 0
_COUNTED = 1024  # most values whose entries are counted one by one for an estimate
_COLUMN_BYTES = 2048  # an empty column
_GROWN_ENTRY_BYTES = 12  # row and code, in arrays that grow by half
_ENTRY_BYTES = (
    176  # a dictionary entry, its place in the sorted values, its count and the objects around them
)


class AttributeIndex(TreeEvaluator):
    """Values by field and rows by value, for one writer that appends rows and many readers.

    Rows are appended in ascending order and never change: a reader passes the number of rows it knows and sees none
    of those that are added meanwhile. The caller masks dead rows.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._colours = ColourRows()
        self._rows = 0

    def append(self, first: int, flat: Sequence[Fields]) -> None:
        """Add rows `first`, `first + 1`, … with these flattened attributes."""
        touched: dict[str, _Column] = {}
        for row, one in enumerate(flat, first):
            for field, keys in one.items():
                if field == COLOURS:
                    continue
                column = touched.get(field)
                if column is None:
                    column = touched[field] = self._columns.setdefault(field, _Column())
                column.add(row, keys)
        self._colours.append(first, [as_row(one.get(COLOURS, ())) for one in flat])
        # Entries are published once per batch: cheaper than row by row, and readers ignore rows they do not know.
        for column in touched.values():
            column.publish()
        self._rows = first + len(flat)

    def cost(self, flat: Sequence[Fields]) -> int:
        """About how many bytes rows with these flattened attributes would add."""
        coloured = sum(COLOURS in one for one in flat)
        flat = [{field: keys for field, keys in one.items() if field != COLOURS} for one in flat]
        news = {(field, key) for one in flat for field, keys in one.items() for key in keys}
        columns = {field for field, _ in news} - self._columns.keys()
        values = sum(
            _value_bytes(key) for field, key in news if field in columns or not self._knows(field, key)
        )
        entries = sum(len(keys) for one in flat for keys in one.values())
        grown = entries * _GROWN_ENTRY_BYTES + coloured * ROW_BYTES * 3 // 2
        return len(columns) * _COLUMN_BYTES + values + grown

    def _knows(self, field: str, key: Key | None) -> bool:
        return self._columns[field].knows(key)

    @property
    def row_count(self) -> int:
        """Rows appended so far."""
        return self._rows

    def colours(self, rows: int) -> Colours:
        """The colours of the first `rows` rows, uint8 [rows, 5, 4]."""
        return self._colours.first(rows)

    @property
    def colours_by_cell(self) -> NDArray[np.int64]:
        """How many colours of the rows lie in each of the palette's cells, int64 [32768]."""
        return self._colours.by_cell

    def leaf_mask(self, leaf: Leaf, rows: int) -> Mask:
        """Which of the first `rows` rows pass one comparison, bool [rows]."""
        found = np.zeros(rows, np.bool_)
        column = self._columns.get(leaf.field)
        if column is not None:
            column.mark(leaf, found)
        return found

    def leaf_bounds(self, leaf: Leaf) -> tuple[int, int]:
        """Least and most rows that can pass: coarse, for rows may be added or unknown to the reader meanwhile."""
        column = self._columns.get(leaf.field)
        return 0, 0 if column is None else min(self._rows, column.most(leaf))

    def leaf_matching(self, leaf: Leaf, rows: int, most: int) -> NDArray[np.int64] | None:
        """The rows of one comparison in ascending order, or None when they are more than `most`."""
        found = np.flatnonzero(self.leaf_mask(leaf, rows))
        return found if len(found) <= most else None

    def leaf_holds(self, leaf: Leaf, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows pass one comparison, bool [m]."""
        return self.leaf_mask(leaf, int(rows[-1]) + 1 if len(rows) else 0)[rows]

    def facet(self, field: str, rows: Mask | NDArray[np.int64], most: int | None = None) -> Mapping[Key, int]:
        """How many of the rows have each value, most common first: the first `most` of them, or all."""
        column = self._columns.get(field)
        return {} if column is None else column.facet(rows, most)

    def values(self, field: str, rows: NDArray[np.int64]) -> list[tuple[Key, ...]]:
        """The values of the field of each row: texts, numbers, booleans, each kind ascending."""
        column = self._columns.get(field)
        return [()] * len(rows) if column is None else column.values(rows)

    def ranks(
        self, field: str, rows: NDArray[np.int64], *, largest: bool = False, times: bool = False
    ) -> NDArray[np.int32]:
        """See `Attributes.ranks`."""
        column = self._columns.get(field)
        return np.full(len(rows), -1, np.int32) if column is None else column.ranks(rows, largest, times)

    def renumbered(self, places: NDArray[np.int64]) -> "AttributeIndex":
        """A copy for rows that moved: row i is now row `places[i]`, gone where that is -1; order is kept."""
        copy = AttributeIndex()
        for field, column in list(self._columns.items()):
            moved = column.renumbered(places)
            if moved is not None:
                copy._columns[field] = moved
        copy._colours = self._colours.renumbered(places)
        copy._rows = int(places.max(initial=-1)) + 1
        return copy

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes held."""
        columns = sum(column.memory_bytes + len(field) for field, column in list(self._columns.items()))
        return columns + self._colours.memory_bytes


def ranked(
    rows: int, owners: NDArray[np.int64], ranks: NDArray[np.int32], largest: bool
) -> NDArray[np.int32]:
    """The first or last rank of each row, -1 where there is none, of ranks that ascend for each of the ascending owners."""
    found = np.full(rows, -1, np.int32)
    step = 1 if largest else -1
    found[owners[::step]] = ranks[::step]  # the last one written stays
    return found


def ranked_places(
    rows: int, owners: NDArray[np.int64], places: NDArray[np.int32], largest: bool
) -> NDArray[np.int32]:
    """As `ranked`, of places in any order; negative ones are no value's."""
    owners, places = owners[places >= 0], places[places >= 0]
    order = np.lexsort((places, owners))
    return ranked(rows, owners[order], places[order], largest)


def row_numbers(rows: Mask | NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows a mask keeps, or the row numbers given."""
    return np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64, copy=False)


def fields(attributes: Mapping[str, Any]) -> Fields:
    """Flatten an image's attributes; a list stands for each of its elements, and a colour for a number."""
    found: dict[str, set[Key | None]] = {}
    if attributes.get(COLOURS):
        found[COLOURS] = set(as_numbers(attributes[COLOURS]))
    pending: list[tuple[str, Any]] = [
        (name, value) for name, value in attributes.items() if name and name != COLOURS
    ]
    while pending:
        path, value = pending.pop()
        match value:
            case None:
                continue
            case list() | tuple():
                pending.extend((path, element) for element in value)
                continue
            case Mapping():
                pending.extend((f"{path}.{name}", inner) for name, inner in value.items() if name)
                found.setdefault(path, set()).add(None)
            case _:
                found.setdefault(path, set()).add(_key(value))
    return found


def _key(value: Scalar) -> Key | None:
    if isinstance(value, bool):
        return ("bool", value)
    return None if isinstance(value, float) and math.isnan(value) else value


def order_of(key: Key) -> tuple[int, Any]:
    """Sorts values of different kinds: texts, then numbers, then booleans, each kind ascending."""
    if isinstance(key, tuple):
        return 2, key[1]
    return (0, key) if isinstance(key, str) else (1, key)


def _value_bytes(key: Key | None) -> int:
    return _ENTRY_BYTES + sys.getsizeof(key)


class _Column:
    """One field: entries (row, value code) in order of rows, and the dictionary of its values."""

    def __init__(self) -> None:
        self._codes_of: dict[Key | None, int] = {None: _PRESENT}
        self._keys: list[Key | None] = [None]
        self._counts = [0]
        self._rows = np.zeros(16, np.int32)
        self._codes = np.zeros(16, np.int32)
        self._size = 0
        self._new_rows: list[int] = []
        self._new_codes: list[int] = []
        self._numbers = _Sorted()
        self._texts = _Sorted()
        self._instants: Instants = np.zeros(0, np.int64)
        self._value_bytes = 0
        self._single = True

    def add(self, row: int, keys: set[Key | None]) -> None:
        if len(keys) > 1:
            self._single = False
        for key in keys:
            code = self._codes_of.get(key)
            if code is None:
                code = self._learn(key)
            self._counts[code] += 1
            self._new_rows.append(row)
            self._new_codes.append(code)

    def _learn(self, key: Key | None) -> int:
        code = len(self._keys)
        self._keys.append(key)
        self._counts.append(0)
        self._codes_of[key] = code
        self._value_bytes += _value_bytes(key)
        if isinstance(key, str):
            self._texts.add(key, code)
        elif isinstance(key, int | float):
            self._numbers.add(key, code)
        return code

    def publish(self) -> None:
        """Make the added entries visible: arrays first, size last, so that readers without a lock see whole entries."""
        if not self._new_rows:
            return
        self._numbers.publish()
        self._texts.publish()
        size = self._size + len(self._new_rows)
        if size > len(self._rows):
            capacity = max(size, len(self._rows) * 3 // 2)
            self._rows = np.concatenate([self._rows[: self._size], np.zeros(capacity - self._size, np.int32)])
            self._codes = np.concatenate(
                [self._codes[: self._size], np.zeros(capacity - self._size, np.int32)]
            )
        self._rows[self._size : size] = self._new_rows
        self._codes[self._size : size] = self._new_codes
        self._size = size
        self._new_rows, self._new_codes = [], []

    def knows(self, key: Key | None) -> bool:
        """Whether some row has, or had, this value."""
        return key in self._codes_of

    def mark(self, tree: Leaf, found: Mask) -> None:
        """Set the rows that pass one comparison in `found`, bool [rows], which starts all false."""
        rows, codes = self._entries(len(found))
        size = len(rows)
        passing = self._passing(tree, codes)
        if np.count_nonzero(passing) < size // 8:
            found[rows[passing]] = True
        elif self._single:
            found[rows] = passing
        else:
            found[rows[passing]] = True

    def most(self, tree: Leaf) -> int:
        """Most rows that pass one comparison."""
        size = self._size
        wanted = None if isinstance(tree, Exists) else self._wanted(tree)
        if wanted is None or len(wanted) > _COUNTED:
            return size
        counts = self._counts
        found: int = sum(counts[code] for code in wanted.tolist())
        return min(size, found)

    def facet(self, rows: Mask | NDArray[np.int64], most: int | None) -> dict[Key, int]:
        """How many of the rows have each value, most common first."""
        _, codes = self._entries_of(row_numbers(rows))
        counts = np.bincount(codes[codes != _PRESENT])
        keys = self._keys
        found = [
            (key, int(counts[code])) for code in np.flatnonzero(counts) if (key := keys[code]) is not None
        ]
        return dict(sorted(found, key=lambda item: (-item[1], order_of(item[0])))[:most])

    def values(self, rows: NDArray[np.int64]) -> list[tuple[Key, ...]]:
        """The values of each row, in order."""
        owners, codes = self._entries_of(rows)
        found: list[list[Key]] = [[] for _ in range(len(rows))]
        keys = self._keys
        for owner, code in zip(owners.tolist(), codes.tolist(), strict=True):
            key = keys[code]
            if key is not None:
                found[owner].append(key)
        return [tuple(sorted(one, key=order_of)) for one in found]

    def ranks(self, rows: NDArray[np.int64], largest: bool, times: bool) -> NDArray[np.int32]:
        """The place of each row's smallest or largest value in the order of the values of these rows."""
        owners, codes = self._entries_of(rows)
        if times:
            return ranked_places(len(rows), owners, time_places(self._known_instants())[codes], largest)
        owners, codes = owners[codes != _PRESENT], codes[codes != _PRESENT]
        keys, used = self._keys, np.unique(codes)
        found = [key for code in used.tolist() if (key := keys[code]) is not None]
        places = np.empty(len(used), np.int32)
        places[sorted(range(len(found)), key=lambda at: order_of(found[at]))] = np.arange(len(used))
        return ranked_places(len(rows), owners, places[np.searchsorted(used, codes)], largest)

    def _entries(self, rows: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows and codes of the entries of the first `rows` rows."""
        size = self._size
        size = int(np.searchsorted(self._rows[:size], rows))
        return self._rows[:size], self._codes[:size]

    def _entries_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Entries of some rows: places in `rows` and codes."""
        entry_rows, codes = self._entries(int(rows.max(initial=-1)) + 1)
        starts = np.searchsorted(entry_rows, rows, "left")
        counts = np.searchsorted(entry_rows, rows, "right") - starts
        owners = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return owners, codes[starts[owners] + within]

    def _passing(self, tree: Leaf, codes: NDArray[np.int32]) -> Mask:
        if isinstance(tree, Exists):
            return np.ones(len(codes), np.bool_)
        wanted = self._wanted(tree)
        if len(wanted) == 1:
            equal: Mask = codes == wanted[0]
            return equal
        among = np.zeros(len(self._codes_of), np.bool_)
        among[wanted] = True
        return among[codes]

    def _wanted(self, tree: Eq | In | Range | Prefix | Within) -> NDArray[np.int32]:
        """Codes of the values that pass one comparison."""
        match tree:
            case Eq(value=value):
                return self._known([value])
            case In(values=values):
                return self._known(values)
            case Range():
                return self._within(tree)
            case Prefix(prefix=prefix):
                return self._texts.starting_with(prefix)
            case Within(spans=spans):
                return np.flatnonzero(within(self._known_instants(), spans)).astype(np.int32)

    def _known_instants(self) -> Instants:
        """The values as points in time, int64 [values]: read once each, by whoever asks first."""
        known, keys = self._instants, self._keys
        if len(known) < len(keys):
            known = self._instants = np.concatenate([known, instants_of(keys[len(known) : len(keys)])])
        return known

    def _known(self, values: Sequence[Scalar]) -> NDArray[np.int32]:
        codes = (self._codes_of.get(_key(value)) for value in values)
        return np.array([code for code in codes if code], np.int32)

    def _within(self, tree: Range) -> NDArray[np.int32]:
        textual = any(isinstance(bound, str) for bound in tree.bounds().values())
        return (self._texts if textual else self._numbers).within(tree)

    def renumbered(self, places: NDArray[np.int64]) -> "_Column | None":
        size = self._size
        rows = places[self._rows[:size]]
        alive = rows >= 0
        if not alive.any():
            return None
        codes = self._codes[:size][alive]
        used = np.unique(codes)
        copy = _Column()
        fresh = np.zeros(len(self._codes_of), np.int32)
        for key, code in list(self._codes_of.items()):
            place = np.searchsorted(used, code)
            if code != _PRESENT and place < len(used) and used[place] == code:
                fresh[code] = copy._learn(key)
        copy._single = self._single
        copy._new_rows, copy._new_codes = rows[alive].tolist(), fresh[codes].tolist()
        copy._counts = np.bincount(fresh[codes], minlength=len(copy._keys)).tolist()
        copy.publish()
        return copy

    @property
    def memory_bytes(self) -> int:
        arrays = self._rows.nbytes + self._codes.nbytes + self._instants.nbytes
        return arrays + self._value_bytes + _COLUMN_BYTES


class _Run(NamedTuple):
    """Values in order with their codes."""

    keys: list[Any]
    codes: NDArray[np.int32]

    def merged(self, other: Iterable[tuple[Any, int]]) -> "_Run":
        pairs = sorted([*zip(self.keys, self.codes.tolist(), strict=True), *other])
        return _Run([key for key, _ in pairs], np.array([code for _, code in pairs], np.int32))

    def pairs(self) -> Iterable[tuple[Any, int]]:
        return zip(self.keys, self.codes.tolist(), strict=True)

    def within(self, bounds: Mapping[str, Scalar]) -> NDArray[np.int32]:
        low, high = 0, len(self.keys)
        for name, bound in bounds.items():
            if name in ("gt", "gte"):
                low = max(low, (bisect_right if name == "gt" else bisect_left)(self.keys, bound))
            else:
                high = min(high, (bisect_left if name == "lt" else bisect_right)(self.keys, bound))
        return self.codes[low : max(low, high)]

    def starting_with(self, prefix: str) -> NDArray[np.int32]:
        low = bisect_left(self.keys, prefix)
        high = bisect_right(self.keys, prefix, lo=low, key=lambda text: text[: len(prefix)])
        return self.codes[low:high]


_EMPTY = _Run([], np.zeros(0, np.int32))


class _Sorted:
    """Distinct values in order: a long run and a short one, so that a batch of new values costs little."""

    def __init__(self) -> None:
        self._runs = (_EMPTY, _EMPTY)
        self._new: list[tuple[Any, int]] = []

    def add(self, key: Any, code: int) -> None:
        self._new.append((key, code))

    def publish(self) -> None:
        """Make added values visible."""
        if not self._new:
            return
        long, short = self._runs
        short = short.merged(self._new)
        if len(short.keys) > max(256, len(long.keys) // 16):
            long, short = long.merged(short.pairs()), _EMPTY
        self._runs, self._new = (long, short), []

    def within(self, wanted: Range) -> NDArray[np.int32]:
        """Codes of the values within all bounds, int32 [n]."""
        bounds = wanted.bounds()
        return np.concatenate([run.within(bounds) for run in self._runs])

    def starting_with(self, prefix: str) -> NDArray[np.int32]:
        """Codes of the strings that start with `prefix`, int32 [n]."""
        return np.concatenate([run.starting_with(prefix) for run in self._runs])
