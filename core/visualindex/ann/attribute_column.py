"""One field of mapped attribute columns: from comparisons to codes, and from codes to rows and back."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_file import ColumnArrays
from visualindex.ann.attributes import Key, ranked, ranked_places, row_numbers
from visualindex.ann.codes import Mask
from visualindex.ann.instants import NEVER, Instants, instants_of, instants_of_numbers, time_places, within
from visualindex.filters import Eq, Exists, In, Leaf, Prefix, Range, Scalar, Within

Runs: TypeAlias = NDArray[np.int64]
"""A set of codes as ascending, disjoint half-open ranges, int64 [r, 2]."""

_NOTHING: Runs = np.zeros((0, 2), np.int64)
_FEW_RUNS = 256
_KEPT_LEAVES, _KEPT_RUNS = 32, 4096
_SCATTER_BELOW = 1 / 16
"""Share of rows below which setting them one by one beats comparing the code of every row."""


class Column:
    """The values of one field of a segment of `rows` rows."""

    def __init__(self, arrays: ColumnArrays, rows: int) -> None:
        self.arrays = arrays
        self._rows = rows
        self._texts = len(arrays.texts)
        self._numbers = len(arrays.numbers)
        self.values = len(arrays.offsets) - 1
        self._asked: dict[int, tuple[Leaf, Runs]] = {}

    def runs(self, leaf: Leaf) -> Runs:
        """The codes of the values that pass one comparison."""
        # A search asks for an estimate, then for rows: by identity, as `True` and `1` are equal to Python. The leaf is
        # kept beside its answer, so that no other can take its identity.
        asked = self._asked.get(id(leaf))
        if asked is not None:
            return asked[1]
        found = self._found(leaf)
        if len(found) <= _KEPT_RUNS:
            if len(self._asked) >= _KEPT_LEAVES:
                self._asked.clear()
            self._asked[id(leaf)] = (leaf, found)
        return found

    def _found(self, leaf: Leaf) -> Runs:
        match leaf:
            case Exists():
                return _runs([(0, self.values)])
            case Eq(value=value):
                return _runs([self._equal(value)])
            case In(values=values):
                return _runs(self._equal(value) for value in values)
            case Range():
                return self._within(leaf)
            case Prefix(prefix=prefix):
                return _runs([self._starting_with(prefix.encode("utf-8", "surrogatepass"))])
            case Within(spans=spans):
                return _runs_of(within(self.instants, spans))

    @cached_property
    def instants(self) -> Instants:
        """The values as points in time, int64 [v]."""
        found = np.full(self.values, NEVER)
        found[: len(self.arrays.text_instants)] = self.arrays.text_instants
        numbers = instants_of_numbers(self.arrays.numbers)
        found[self._texts : self._texts + self._numbers] = numbers
        return found

    def entries(self, runs: Runs) -> int:
        """How many pairs of a row and a value have these codes."""
        offsets = self.arrays.offsets
        return int((offsets[runs[:, 1]] - offsets[runs[:, 0]]).sum())

    def bounds(self, runs: Runs) -> tuple[int, int]:
        """Least and most rows that have one of these codes."""
        entries, arrays = self.entries(runs), self.arrays
        if entries == len(arrays.rows):
            return arrays.present, arrays.present
        least = -(-entries // arrays.most_per_row)
        if len(runs) <= _FEW_RUNS:
            # A value has a row once at most, so the rows of the most common one are rows of their own.
            ones = runs[runs[:, 1] - runs[:, 0] == 1, 0]
            counts = arrays.offsets[ones + 1] - arrays.offsets[ones]
            least = max(least, int(counts.max(initial=0)))
        return least, min(entries, arrays.present)

    def mark(self, runs: Runs, found: Mask) -> None:
        """Set the rows that have one of these codes in `found`, bool [rows], which starts all false."""
        arrays = self.arrays
        if arrays.dense and self.entries(runs) > _SCATTER_BELOW * len(found):
            found[:] = self._among(runs, arrays.forward_codes)
        elif len(runs) <= _FEW_RUNS:
            for start, stop in runs.tolist():
                found[arrays.rows[arrays.offsets[start] : arrays.offsets[stop]]] = True
        elif arrays.dense:
            found[:] = self._among(runs, arrays.forward_codes)
        else:
            found[arrays.forward_rows[self._among(runs, arrays.forward_codes)]] = True

    def rows_of(self, runs: Runs) -> NDArray[np.int64]:
        """The rows that have one of these codes, ascending, int64 [m]. Costs the order of their entries."""
        arrays = self.arrays
        slices = [arrays.rows[arrays.offsets[start] : arrays.offsets[stop]] for start, stop in runs.tolist()]
        found = np.concatenate([np.zeros(0, np.int32), *slices]).astype(np.int64)
        if len(found) and (int(found.min()) < 0 or int(found.max()) >= self._rows):
            raise ValueError(f"rows outside of 0 … {self._rows - 1} have its values")
        if len(runs) == 1 and runs[0, 1] - runs[0, 0] == 1:
            return found
        return np.unique(found)

    def holds(self, runs: Runs, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows have one of these codes, bool [m]."""
        if self.arrays.dense:
            return _inside(runs, self.arrays.forward_codes[rows])
        owners, codes = self.codes_of(rows)
        found = np.zeros(len(rows), np.bool_)
        found[owners[_inside(runs, codes)]] = True
        return found

    def codes_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The values of these rows: places in `rows`, ascending, int64 [e], and codes, int32 [e]."""
        arrays = self.arrays
        if arrays.dense:
            codes = arrays.forward_codes[rows]
            owners = np.flatnonzero(codes >= 0)
            return owners, codes[owners]
        wanted = rows.astype(np.int32)
        starts = np.searchsorted(arrays.forward_rows, wanted, "left")
        counts = np.maximum(0, np.searchsorted(arrays.forward_rows, wanted, "right") - starts)
        owners = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return owners, arrays.forward_codes[starts[owners] + within]

    def ranks(self, rows: NDArray[np.int64], largest: bool, times: bool) -> NDArray[np.int32]:
        """The smallest or largest code of each row, or place of a point in time, int32 [m]; -1 where there is none."""
        owners, codes = self.codes_of(rows)
        if times:
            return ranked_places(len(rows), owners, self._time_places[codes], largest)
        real = codes < self.values - 1  # the last code is no value
        return ranked(len(rows), owners[real], codes[real], largest)

    @cached_property
    def _time_places(self) -> NDArray[np.int32]:
        return time_places(self.instants)

    def counts(self, rows: Mask | NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the rows, a mask bool [rows] or row numbers int64 [m], have each code, int64 [v]."""
        arrays = self.arrays
        if rows.dtype != np.bool_:
            codes = self.codes_of(row_numbers(rows))[1]
        elif arrays.dense:
            codes = arrays.forward_codes[rows]
            codes = codes[codes >= 0]
        else:
            codes = arrays.forward_codes[rows[arrays.forward_rows]]
        if len(codes) and int(codes.max()) >= self.values:
            raise ValueError(f"its rows have values outside of 0 … {self.values - 1}")
        return np.bincount(codes, minlength=self.values)

    def key(self, code: int) -> Key | None:
        """The value of a code; None for an object."""
        if code < self._texts:
            text: str = self.arrays.texts[code].decode("utf-8", "surrogatepass")
            return text
        at = code - self._texts
        if at < self._numbers:
            return self._number(at)
        return (("bool", False), ("bool", True), None)[at - self._numbers]

    def _among(self, runs: Runs, codes: NDArray[np.int32]) -> Mask:
        """Which of many codes are in a set; -1 is in none."""
        if len(runs) == 1:
            start, stop = runs[0].tolist()
            one: Mask = codes == start if stop == start + 1 else (codes >= start) & (codes < stop)
            return one
        among = np.zeros(self.values + 1, np.bool_)
        for start, stop in runs.tolist():
            among[start:stop] = True
        return among[codes]

    def _number(self, at: int) -> int | float:
        exact_at = self.arrays.exact_at
        place = int(np.searchsorted(exact_at, at))
        if place < len(exact_at) and exact_at[place] == at:
            return int(self.arrays.exact[place], 16)
        value = float(self.arrays.numbers[at])
        return int(value) if self.arrays.integral[at] else value

    def _equal(self, value: Scalar) -> tuple[int, int]:
        if isinstance(value, bool):
            code = self._texts + self._numbers + int(value)
            return code, code + 1
        if isinstance(value, str):
            at = self._text_place(value, bisect_left)
            wanted = value.encode("utf-8", "surrogatepass")
            return at, at + (at < self._texts and self.arrays.texts[at] == wanted)
        if value != value:  # nan equals nothing
            return 0, 0
        return self._number_place(value, bisect_left), self._number_place(value, bisect_right)

    def _within(self, wanted: Range) -> Runs:
        bounds = wanted.bounds()
        kinds = {isinstance(bound, str) for bound in bounds.values()}
        if len(kinds) > 1 or any(bound != bound for bound in bounds.values()):
            return _NOTHING
        place: Callable[[Any, Any], int] = self._text_place if True in kinds else self._number_place
        low = 0 if True in kinds or not kinds else self._texts
        high = self._texts if True in kinds else self._texts + self._numbers
        for name, bound in bounds.items():
            if name in ("gt", "gte"):
                low = max(low, place(bound, bisect_right if name == "gt" else bisect_left))
            else:
                high = min(high, place(bound, bisect_left if name == "lt" else bisect_right))
        return _runs([(low, high)])

    def _starting_with(self, prefix: bytes) -> tuple[int, int]:
        texts = self.arrays.texts
        low = bisect_left(texts, prefix)
        return low, bisect_right(texts, prefix, lo=low, key=lambda text: text[: len(prefix)])

    def _text_place(self, value: str, side: Callable[..., int]) -> int:
        return side(self.arrays.texts, value.encode("utf-8", "surrogatepass"))

    def _number_place(self, value: int | float, side: Callable[..., int]) -> int:
        """Python compares integers and floats exactly, so only a run of equal roundings is left to it."""
        rounded = nearest(value)
        low, high = (int(np.searchsorted(self.arrays.numbers, rounded, end)) for end in ("left", "right"))
        return self._texts + side(range(high), value, lo=low, hi=max(low, high), key=self._number)


def nearest(value: int | float) -> float:
    """The float64 nearest to a number; infinite where that is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _runs(ranges: Iterable[tuple[int, int]]) -> Runs:
    """Ranges in order, without empty and overlapping ones."""
    found: list[list[int]] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], stop)
        else:
            found.append([start, stop])
    return np.array(found, np.int64).reshape(-1, 2)


def _runs_of(among: Mask) -> Runs:
    """The codes that are marked, bool [v]."""
    edges = np.flatnonzero(np.diff(among, prepend=False, append=False))
    return edges.reshape(-1, 2).astype(np.int64)


def _inside(runs: Runs, codes: NDArray[np.int32]) -> Mask:
    """Which codes are in a set: those behind an odd number of its edges."""
    inside: Mask = np.searchsorted(runs.ravel(), codes, "right") % 2 == 1
    return inside


def arrays_of(
    keys: Sequence[Key | None], rows: NDArray[np.int32], codes: NDArray[np.int32], row_count: int
) -> dict[str, Any]:
    """The arrays of `ColumnArrays` of entries in ascending order of `rows`, whose `codes` are places in `keys`."""
    texts = sorted(key for key in keys if isinstance(key, str))
    numbers = sorted(key for key in keys if isinstance(key, int | float))
    ordered: list[Key | None] = [*texts, *numbers, ("bool", False), ("bool", True), None]
    place = {key: code for code, key in enumerate(ordered)}
    codes = np.array([place[key] for key in keys], np.int32)[codes]
    by_row, by_code = np.lexsort((codes, rows)), np.lexsort((rows, codes))
    per_row = np.bincount(rows) if len(rows) else np.zeros(1, np.int64)
    dense = int(per_row.max()) <= 1 and 2 * len(rows) >= row_count
    forward = np.full(row_count, -1, np.int32)
    if dense:
        forward[rows] = codes
    rounded = [at for at, number in enumerate(numbers) if nearest(number) != number]
    instants = instants_of(texts)
    return {
        "text_instants": instants if (instants != NEVER).any() else instants[:0],
        "texts": [text.encode("utf-8", "surrogatepass") for text in texts],
        "numbers": np.array([nearest(number) for number in numbers], np.float64),
        "integral": np.array([isinstance(number, int) for number in numbers], np.uint8),
        "exact_at": np.array(rounded, np.int32),
        "exact": [format(numbers[at], "x").encode() for at in rounded],
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ordered)))]),
        "rows": rows[by_code],
        "forward_rows": np.zeros(0, np.int32) if dense else rows[by_row],
        "packed": np.zeros(0, np.uint8),
        "forward_codes": forward if dense else codes[by_row],
        "present": np.count_nonzero(per_row),
        "most_per_row": int(per_row.max()),
        "dense": dense,
    }
