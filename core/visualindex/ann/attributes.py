"""The inverted index that turns a filter into the set of rows that pass it."""

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.codes import Mask
from visualindex.filters import And, Eq, Exists, Filter, In, Not, Or, Prefix, Range, Scalar

Key: TypeAlias = str | int | float | tuple[str, bool]
"""A value as a dictionary key; a boolean is wrapped, for `True` and `1` are one key to Python."""

Fields: TypeAlias = Mapping[str, set[Key | None]]
"""The comparable values of each dotted field of one image; None stands for an object, which equals nothing."""

_PRESENT = 0
_COLUMN_BYTES = 2048  # an empty column
_GROWN_ENTRY_BYTES = 12  # row and code, in arrays that grow by half
_ENTRY_BYTES = 160  # a dictionary entry, its place in the sorted values and the objects around them


class AttributeIndex:
    """Values by field and rows by value, for one writer that appends rows and many readers.

    Rows are appended in ascending order and never change: a reader passes the number of rows it knows and sees none
    of those that are added meanwhile. The caller masks dead rows.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}

    def append(self, first: int, flat: Sequence[Fields]) -> None:
        """Add rows `first`, `first + 1`, … with these flattened attributes."""
        touched: dict[str, _Column] = {}
        for row, one in enumerate(flat, first):
            for field, keys in one.items():
                column = touched.get(field)
                if column is None:
                    column = touched[field] = self._columns.setdefault(field, _Column())
                column.add(row, keys)
        # Entries are published once per batch: cheaper than row by row, and readers ignore rows they do not know.
        for column in touched.values():
            column.publish()

    def cost(self, flat: Sequence[Fields]) -> int:
        """About how many bytes rows with these flattened attributes would add."""
        news = {(field, key) for one in flat for field, keys in one.items() for key in keys}
        columns = {field for field, _ in news} - self._columns.keys()
        values = sum(
            _value_bytes(key) for field, key in news if field in columns or not self._knows(field, key)
        )
        entries = sum(len(keys) for one in flat for keys in one.values())
        return len(columns) * _COLUMN_BYTES + values + entries * _GROWN_ENTRY_BYTES

    def _knows(self, field: str, key: Key | None) -> bool:
        return self._columns[field].knows(key)

    def mask(self, tree: Filter, rows: int) -> Mask:
        """Which of the first `rows` rows pass the filter, bool [rows]."""
        match tree:
            case And(terms=terms):
                return self._all(terms, rows)
            case Or(terms=terms):
                found = np.zeros(rows, np.bool_)
                for term in terms:
                    found |= self.mask(term, rows)
                return found
            case Not(term=term):
                return ~self.mask(term, rows)
        found = np.zeros(rows, np.bool_)
        column = self._columns.get(tree.field)
        if column is not None:
            column.mark(tree, found)
        return found

    def _all(self, terms: Sequence[Filter], rows: int) -> Mask:
        found = np.ones(rows, np.bool_)
        for term in terms:
            found &= self.mask(term, rows)
        return found

    def renumbered(self, places: NDArray[np.int64]) -> "AttributeIndex":
        """A copy for rows that moved: row i is now row `places[i]`, gone where that is -1; order is kept."""
        copy = AttributeIndex()
        for field, column in list(self._columns.items()):
            moved = column.renumbered(places)
            if moved is not None:
                copy._columns[field] = moved
        return copy

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes held."""
        return sum(column.memory_bytes + len(field) for field, column in list(self._columns.items()))


def fields(attributes: Mapping[str, Any]) -> Fields:
    """Flatten an image's attributes; a list stands for each of its elements."""
    found: dict[str, set[Key | None]] = {}
    pending: list[tuple[str, Any]] = [
        (name, value) for name, value in attributes.items() if name and name != "colours"
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


def _value_bytes(key: Key | None) -> int:
    return _ENTRY_BYTES + sys.getsizeof(key)


class _Column:
    """One field: entries (row, value code) in order of rows, and the dictionary of its values."""

    def __init__(self) -> None:
        self._codes_of: dict[Key | None, int] = {None: _PRESENT}
        self._rows = np.zeros(16, np.int32)
        self._codes = np.zeros(16, np.int32)
        self._size = 0
        self._new_rows: list[int] = []
        self._new_codes: list[int] = []
        self._numbers = _Sorted()
        self._texts = _Sorted()
        self._value_bytes = 0
        self._single = True

    def add(self, row: int, keys: set[Key | None]) -> None:
        if len(keys) > 1:
            self._single = False
        for key in keys:
            code = self._codes_of.get(key)
            if code is None:
                code = self._learn(key)
            self._new_rows.append(row)
            self._new_codes.append(code)

    def _learn(self, key: Key | None) -> int:
        code = self._codes_of[key] = len(self._codes_of)
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

    def mark(self, tree: Eq | In | Range | Prefix | Exists, found: Mask) -> None:
        """Set the rows that pass one comparison in `found`, bool [rows], which starts all false."""
        size = self._size
        size = int(np.searchsorted(self._rows[:size], len(found)))
        rows, codes = self._rows[:size], self._codes[:size]
        passing = self._passing(tree, codes)
        if np.count_nonzero(passing) < size // 8:
            found[rows[passing]] = True
        elif self._single:
            found[rows] = passing
        else:
            found[rows[passing]] = True

    def _passing(self, tree: Eq | In | Range | Prefix | Exists, codes: NDArray[np.int32]) -> Mask:
        match tree:
            case Exists():
                return np.ones(len(codes), np.bool_)
            case Eq(value=value):
                wanted = self._known([value])
            case In(values=values):
                wanted = self._known(values)
            case Range():
                wanted = self._within(tree)
            case Prefix(prefix=prefix):
                wanted = self._texts.starting_with(prefix)
        if len(wanted) == 1:
            equal: Mask = codes == wanted[0]
            return equal
        among = np.zeros(len(self._codes_of), np.bool_)
        among[wanted] = True
        return among[codes]

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
        copy.publish()
        return copy

    @property
    def memory_bytes(self) -> int:
        return self._rows.nbytes + self._codes.nbytes + self._value_bytes + _COLUMN_BYTES


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
