"""The attributes of a segment in one mapped file: what filters, facets, groups and sorting read."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from visualindex.ann.attribute_colours import FIELD as COLOURS
from visualindex.ann.attribute_colours import NO_COLOURS, Colours, as_colours, as_row, images_by_cell
from visualindex.ann.attribute_column import Column, Runs, arrays_of
from visualindex.ann.attribute_file import ColumnFile, assemble, naming, open_columns, write_columns
from visualindex.ann.attribute_trees import TreeEvaluator
from visualindex.ann.attributes import Fields, Key
from visualindex.ann.codes import Mask
from visualindex.filters import Filter, Leaf
from visualindex.mapped_files import damaged


class Attributes(Protocol):
    """The attributes of rows, whether the rows are fresh (`AttributeIndex`) or a segment's (`AttributeColumns`)."""

    def mask(self, tree: Filter, rows: int) -> Mask:
        """Which of the first `rows` rows pass the filter, bool [rows]."""

    def holding(self, tree: Filter, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows (ascending row numbers, int64 [m]) pass the filter, bool [m]; costs the order of m."""

    def estimate(self, tree: Filter) -> tuple[int, int]:
        """Least and most rows that can pass, without looking at rows."""

    def matching(self, tree: Filter, rows: int, most: int) -> NDArray[np.int64] | None:
        """The passing rows below `rows`, ascending, int64 [m], if they are at most `most` and cheap to tell; else None."""

    def facet(self, field: str, rows: Mask | NDArray[np.int64], most: int | None = None) -> Mapping[Key, int]:
        """How many of the rows have each value, most common first: the first `most` of them, or all."""

    def values(self, field: str, rows: NDArray[np.int64]) -> list[tuple[Key, ...]]:
        """The values of the field of each row: texts, numbers, booleans, each kind ascending."""

    def ranks(
        self, field: str, rows: NDArray[np.int64], *, largest: bool = False, times: bool = False
    ) -> NDArray[np.int32]:
        """The place of each row's smallest or largest value in the order of values, int32 [m]; -1 where there is none.

        For sorting many rows: ranks of one call compare like the values do, or with `times` like the points in time that
        they are, and mean nothing outside of it.
        """

    @property
    def memory_bytes(self) -> int:
        """Bytes held or kept mapped."""


class AttributeColumns(TreeEvaluator):
    """Immutable attributes of the rows of a segment.

    Any method raises `ProblemError(INTERNAL)` naming the file when it meets damage in it. Safe for many threads.
    """

    def __init__(self, file: ColumnFile) -> None:
        self._file = file
        self._columns: dict[str, Column] = {}

    @classmethod
    def build(cls, flat: Iterable[Fields]) -> Self:
        """The columns of rows 0, 1, … with these flattened attributes (`attributes.fields`); may be a generator."""
        growing: dict[str, _Growing] = {}
        rows, colours = 0, bytearray()
        for one in flat:
            colours += as_row(one.get(COLOURS, ()))
            for field, keys in one.items():
                if field == COLOURS:
                    continue
                column = growing.get(field)
                if column is None:
                    column = growing[field] = _Growing()
                column.add(rows, keys)
            rows += 1
        arrays = {name: column.arrays(rows) for name, column in growing.items()}
        if any(colours):
            arrays[COLOURS] = {**_Growing().arrays(rows), "packed": np.frombuffer(colours, np.uint8)}
        names = sorted(arrays)
        return cls(
            assemble(
                rows,
                [name.encode("utf-8", "surrogatepass") for name in names],
                [arrays.pop(name) for name in names],
                "attributes in memory",
            )
        )

    def write(self, path: Path) -> None:
        """Write all of it to a file."""
        write_columns(self._file, path)

    @classmethod
    def open(cls, path: Path, rows: int | None = None) -> Self:
        """Map a file; refused if it is not of `rows` rows."""
        file = open_columns(path)
        if rows is not None and file.rows != rows:
            raise damaged(path, f"it has {file.rows} rows instead of {rows}")
        return cls(file)

    @property
    def row_count(self) -> int:
        """Rows there are, with attributes or without."""
        return self._file.rows

    @property
    def memory_bytes(self) -> int:
        """Bytes mapped."""
        return self._file.bytes

    @property
    def fields(self) -> list[str]:
        """Every field that some row has, ascending."""
        with naming(self._file.place):
            names = [name.decode("utf-8", "surrogatepass") for name in self._file.names]
        return [name for name in names if name != COLOURS]

    def colours(self, rows: int) -> Colours:
        """The colours of the first `rows` rows, uint8 [rows, 5, 4]."""
        with naming(self._file.place):
            column = self._column(COLOURS)
            found = NO_COLOURS if column is None else as_colours(column.arrays.packed)
        if len(found) < self.row_count:
            found = np.zeros((self.row_count, *NO_COLOURS.shape[1:]), np.uint8)
        return found[:rows]

    @cached_property
    def colours_by_cell(self) -> NDArray[np.int64]:
        """How many colours of the rows lie in each of the palette's cells, int64 [32768]; counted when first asked."""
        return images_by_cell(self.colours(self.row_count))

    def leaf_mask(self, leaf: Leaf, rows: int) -> Mask:
        """Which of the first `rows` rows pass one comparison, bool [rows]."""
        found = np.zeros(self.row_count, np.bool_)
        with naming(self._file.place):
            column, runs = self._passing(leaf)
            if column is not None:
                column.mark(runs, found)
        return found[:rows]

    def leaf_bounds(self, leaf: Leaf) -> tuple[int, int]:
        """Least and most rows that one comparison can pass; they are equal where no row has two of its values."""
        with naming(self._file.place):
            column, runs = self._passing(leaf)
            return (0, 0) if column is None else column.bounds(runs)

    def leaf_matching(self, leaf: Leaf, rows: int, most: int) -> NDArray[np.int64] | None:
        """The rows of one comparison in ascending order, or None when they are more than `most`."""
        with naming(self._file.place):
            column, runs = self._passing(leaf)
            if column is None:
                return np.zeros(0, np.int64)
            if column.entries(runs) > most * min(4, column.arrays.most_per_row):
                return None
            found = column.rows_of(runs)
            return found[: int(np.searchsorted(found, rows))]

    def leaf_holds(self, leaf: Leaf, rows: NDArray[np.int64]) -> Mask:
        """Which of these rows pass one comparison, bool [m]."""
        with naming(self._file.place):
            column, runs = self._passing(leaf)
            return np.zeros(len(rows), np.bool_) if column is None else column.holds(runs, rows)

    def facet(self, field: str, rows: Mask | NDArray[np.int64], most: int | None = None) -> Mapping[Key, int]:
        """How many of the rows have each value, most common first: the first `most` of them, or all."""
        with naming(self._file.place):
            column = self._column(field)
            return {} if column is None else _most_common(column, rows, most)

    def values(self, field: str, rows: NDArray[np.int64]) -> list[tuple[Key, ...]]:
        """The values of the field of each row: texts, numbers, booleans, each kind ascending."""
        found: list[list[Key]] = [[] for _ in range(len(rows))]
        with naming(self._file.place):
            column = self._column(field)
            if column is not None:
                owners, codes = column.codes_of(rows)
                keys = {code: column.key(code) for code in np.unique(codes).tolist()}
                for owner, code in zip(owners.tolist(), codes.tolist(), strict=True):
                    key = keys[code]
                    if key is not None:
                        found[owner].append(key)
        return [tuple(keys) for keys in found]

    def ranks(
        self, field: str, rows: NDArray[np.int64], *, largest: bool = False, times: bool = False
    ) -> NDArray[np.int32]:
        """See `Attributes.ranks`."""
        with naming(self._file.place):
            column = self._column(field)
            return np.full(len(rows), -1, np.int32) if column is None else column.ranks(rows, largest, times)

    def _passing(self, leaf: Leaf) -> tuple[Column | None, Runs]:
        column = self._column(leaf.field)
        return column, column.runs(leaf) if column else np.zeros((0, 2), np.int64)

    def _column(self, field: str) -> Column | None:
        if field in self._columns:
            return self._columns[field]
        names, wanted = self._file.names, field.encode("utf-8", "surrogatepass")
        at = bisect_left(names, wanted)
        if at == len(names) or names[at] != wanted:
            return None  # not remembered: callers may ask for any number of fields that no row has
        return self._columns.setdefault(field, Column(self._file.column(at), self.row_count))


def _most_common(column: Column, rows: Mask | NDArray[np.int64], most: int | None) -> dict[Key, int]:
    counts = column.counts(rows)
    counts[-1:] = 0  # an object is no value
    codes = np.flatnonzero(counts)
    codes = codes[np.argsort(-counts[codes], kind="stable")][:most]
    found = ((column.key(code), int(counts[code])) for code in codes.tolist())
    return {key: count for key, count in found if key is not None}


class _Growing:
    """Entries of one field while the rows come."""

    def __init__(self) -> None:
        self._codes_of: dict[Key | None, int] = {}
        self._rows = array("i")
        self._codes = array("i")

    def add(self, row: int, keys: Iterable[Key | None]) -> None:
        for key in keys:
            self._rows.append(row)
            self._codes.append(self._codes_of.setdefault(key, len(self._codes_of)))

    def arrays(self, rows: int) -> dict[str, object]:
        entries = (np.array(self._rows, np.int32), np.array(self._codes, np.int32))
        return arrays_of(list(self._codes_of), *entries, rows)
