"""The file of attribute columns: one Arrow record batch with a row per field, uncompressed, so that it can be mapped.

Lists of a field lie one after another in the buffers of the batch: a column is a handful of slices, and neither
opening the file nor a million fields in it cost objects. What the file says is not trusted: arrays are read through
numpy, which refuses what lies outside of its buffers, and strings as bytes between checked bounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.ipc
from numpy.typing import NDArray

from visualindex.ann.attribute_colours import ROW_BYTES
from visualindex.mapped_files import damaged

FORMAT = b"1"
_MOST_ROWS = 2**31 - 1
_FORMAT_KEY, _ROWS_KEY = b"visualindex.attributes", b"visualindex.rows"

LISTS: Mapping[str, Any] = {
    "texts": np.bytes_,
    "text_instants": np.int64,
    "numbers": np.float64,
    "integral": np.uint8,
    "exact_at": np.int32,
    "exact": np.bytes_,
    "offsets": np.int64,
    "rows": np.int32,
    "forward_rows": np.int32,
    "forward_codes": np.int32,
    "packed": np.uint8,
}
"""The arrays of a field (`ColumnArrays` says what they hold) and their element types."""

_SCALARS = {"present": pyarrow.int64(), "most_per_row": pyarrow.int32(), "dense": pyarrow.int8()}
_ELEMENTS = {
    np.bytes_: pyarrow.large_binary(),
    np.float64: pyarrow.float64(),
    np.uint8: pyarrow.uint8(),
    np.int32: pyarrow.int32(),
    np.int64: pyarrow.int64(),
}
_SCHEMA = pyarrow.schema(
    [
        ("name", pyarrow.large_binary()),
        *_SCALARS.items(),
        *((name, pyarrow.large_list(_ELEMENTS[kind])) for name, kind in LISTS.items()),
    ]
)


class Strings(Sequence[bytes]):
    """Strings as UTF-8, whose byte order is that of code points, in a shared buffer."""

    def __init__(self, offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        self._offsets = offsets
        self._data = data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Strings(self._offsets[at.start : at.stop + 1], self._data)
        start, stop = int(self._offsets[at]), int(self._offsets[at + 1])
        if not 0 <= start <= stop <= len(self._data):
            raise ValueError(f"string {at} lies outside of its buffer")
        return self._data[start:stop].tobytes()


@dataclass(frozen=True)
class ColumnArrays:
    """What the file holds of one field.

    Values have codes: texts ascending, then numbers ascending, then false, true and "an object is here". `v` is their
    number, `e` that of entries, which are pairs of a row and a value.
    """

    texts: Strings
    text_instants: NDArray[np.int64]
    """The texts as points in time (`ann.instants`), int64 as long as `texts`; empty when none is one."""
    numbers: NDArray[np.float64]
    """Ascending. Integers that no float64 equals are rounded, and written out in `exact`."""
    integral: NDArray[np.uint8]
    """1 where the number is an integer, as long as `numbers`."""
    exact_at: NDArray[np.int32]
    """Ascending places in `numbers` of rounded integers."""
    exact: Strings
    """They themselves in hexadecimal, as long as `exact_at`."""
    offsets: NDArray[np.int64]
    """int64 [v + 1]: the rows of value c are `rows[offsets[c]:offsets[c + 1]]`."""
    rows: NDArray[np.int32]
    """int32 [e], ascending for each value."""
    forward_rows: NDArray[np.int32]
    """The row of each of `forward_codes`, ascending, int32 [e]; empty when `dense`."""
    forward_codes: NDArray[np.int32]
    """Codes of the values row by row, int32 [e]; one per row, -1 for none, when `dense`."""
    packed: NDArray[np.uint8]
    """Of the colours 20 bytes per row, and no values; of other fields nothing."""
    present: int
    """Rows with a value."""
    most_per_row: int
    """Most values one row has."""
    dense: bool


@dataclass(frozen=True)
class ColumnFile:
    """All columns."""

    place: str
    """What to call it in errors."""
    rows: int
    names: Strings
    """The fields, ascending."""
    bytes: int
    batch: Any
    """The record batch: it keeps the mapping alive, and is what `write_columns` writes."""
    scalars: Mapping[str, NDArray[Any]]
    bounds: Mapping[str, NDArray[np.int64]]
    """Per array of `LISTS` where the slice of each field starts, int64 [fields + 1]."""
    values: Mapping[str, Any]
    """Per array of `LISTS` the elements of all fields."""

    def column(self, at: int) -> ColumnArrays:
        """The arrays of field number `at`."""
        slices = {
            name: self.values[name][int(starts[at]) : int(starts[at + 1])]
            for name, starts in self.bounds.items()
        }
        scalars = {name: int(values[at]) for name, values in self.scalars.items()}
        found = ColumnArrays(
            **slices,
            present=scalars["present"],
            most_per_row=max(1, scalars["most_per_row"]),
            dense=bool(scalars["dense"]),
        )
        _check(found, self.rows)
        return found


def _check(column: ColumnArrays, rows: int) -> None:
    """What costs no pass over values: that lengths fit each other. Elements are guarded where they are used."""
    values = len(column.texts) + len(column.numbers) + 3
    if len(column.offsets) != values + 1 or len(column.integral) != len(column.numbers):
        raise ValueError("the values of a field do not fit each other")
    if len(column.text_instants) not in (0, len(column.texts)):
        raise ValueError("the times of a field do not fit its texts")
    if int(column.offsets[0]) != 0 or int(column.offsets[-1]) != len(column.rows):
        raise ValueError("the rows of a field do not fit its values")
    if len(column.exact) != len(column.exact_at):
        raise ValueError("the long numbers of a field do not fit each other")
    if len(column.packed) not in (0, rows * ROW_BYTES):
        raise ValueError("the colours do not fit the rows")
    forward = (rows, 0) if column.dense else (len(column.rows), len(column.rows))
    if (len(column.forward_codes), len(column.forward_rows)) != forward or not 0 <= column.present <= rows:
        raise ValueError("the entries of a field do not fit its rows")


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn what damaged columns make numpy and Arrow say into a problem that names the file."""
    try:
        yield
    except (ValueError, LookupError, OverflowError, TypeError, OSError, pyarrow.ArrowException) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else f"it is damaged ({error})"
        raise damaged(place, why) from error


def assemble(
    rows: int, names: Sequence[bytes], columns: Sequence[Mapping[str, Any]], place: str
) -> ColumnFile:
    """The columns of fields in ascending order of `names`; each maps the names of `ColumnArrays` to values."""
    arrays = [pyarrow.array(names, pyarrow.large_binary())]
    arrays += [pyarrow.array([int(one[name]) for one in columns], kind) for name, kind in _SCALARS.items()]
    for name, kind in LISTS.items():
        bounds = np.cumsum([0, *(len(one[name]) for one in columns)], dtype=np.int64)
        arrays.append(
            pyarrow.LargeListArray.from_arrays(bounds, _joined([one[name] for one in columns], kind))
        )
    schema = _SCHEMA.with_metadata({_FORMAT_KEY: FORMAT, _ROWS_KEY: str(rows).encode()})
    return _opened(pyarrow.RecordBatch.from_arrays(arrays, schema=schema), place)


def _joined(parts: Sequence[Any], kind: Any) -> Any:
    if kind is np.bytes_:
        return pyarrow.array([text for part in parts for text in part], pyarrow.large_binary())
    return pyarrow.array(np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False))


def write_columns(columns: ColumnFile, path: Path) -> None:
    """Write columns to a file."""
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, columns.batch.schema) as writer:
        writer.write_batch(columns.batch)


def open_columns(path: Path) -> ColumnFile:
    """Map the columns of a file. Raises `ProblemError(INTERNAL)` naming the file when it is missing or damaged."""
    with naming(str(path)):
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(path), "r"))
        if reader.num_record_batches != 1:
            raise ValueError(f"it holds {reader.num_record_batches} record batches instead of one")
        return _opened(reader.get_batch(0), str(path))


def _opened(batch: Any, place: str) -> ColumnFile:
    about = batch.schema.metadata or {}
    if about.get(_FORMAT_KEY) != FORMAT:
        raise ValueError(
            f"its format is {about.get(_FORMAT_KEY)!r}, and this release reads {FORMAT!r}: use the release that wrote it"
        )
    if not batch.schema.equals(_SCHEMA, check_metadata=False):
        raise ValueError("its columns are not those of attributes")
    batch.validate()
    rows = int(about[_ROWS_KEY])
    if not 0 <= rows <= _MOST_ROWS:
        raise ValueError(f"it claims {rows} rows")
    lists = {name: batch.column(name) for name in LISTS}
    bounds = {name: _bounds(array) for name, array in lists.items()}
    return ColumnFile(
        place=place,
        rows=rows,
        names=_strings(batch.column("name")),
        bytes=batch.nbytes,
        batch=batch,
        scalars={
            name: _numbers(batch.column(name), kind.to_pandas_dtype()) for name, kind in _SCALARS.items()
        },
        bounds=bounds,
        values={name: _elements(array.values, LISTS[name]) for name, array in lists.items()},
    )


def _elements(array: Any, kind: Any) -> Any:
    return _strings(array) if kind is np.bytes_ else _numbers(array, kind)


def _numbers(array: Any, kind: Any) -> NDArray[Any]:
    return _buffer(array.buffers()[1], np.dtype(kind), len(array), array.offset)


def _bounds(array: Any) -> NDArray[np.int64]:
    found = _buffer(array.buffers()[1], np.dtype(np.int64), len(array) + 1, array.offset)
    if int(found[0]) < 0 or int(found[-1]) > len(array.values) or (np.diff(found) < 0).any():
        raise ValueError("the lists of its fields overlap")
    return found


def _strings(array: Any) -> Strings:
    _, offsets, data = array.buffers()
    return Strings(
        _buffer(offsets, np.dtype(np.int64), len(array) + 1, array.offset),
        np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8),
    )


def _buffer(buffer: Any, dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
    if buffer is None or (not count and not buffer.size):
        return np.zeros(count, dtype)
    return np.frombuffer(buffer, dtype, count, offset * dtype.itemsize)
