"""The rows of manifests: CSV, JSON lines, Parquet."""

import csv
import datetime as dt
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

Rows = Iterator[tuple[str, Any]]
"""Where a row is, as one says behind the manifest's name (`:32`, ` row 31`), and the row, or why it cannot be read."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")


def reader_of(path: Path, texts: Collection[str]) -> Callable[[Path], Rows] | None:
    """What reads a manifest of that name; None when it is none. Columns of `texts` are text whatever they look like."""
    readers: Mapping[str, Callable[[Path], Rows]] = {
        ".csv": lambda path: csv_rows(path, texts),
        ".jsonl": json_rows,
        ".ndjson": json_rows,
        ".parquet": parquet_rows,
    }
    return readers.get(path.suffix.lower())


PICTURE_COLUMNS = ("path", "object")
"""Columns that name a file or an object, under one meaning whoever reads the manifest."""
COLUMNS = frozenset({*PICTURE_COLUMNS, "image_url", "key", "category", "url", "metadata"})
"""Columns that are not metadata."""
MANIFESTS = (".csv", ".jsonl", ".ndjson", ".parquet")
"""What the names of manifests end with."""


def csv_rows(path: Path, texts: Collection[str]) -> Rows:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            place = f":{reader.line_num}"
            if None in row:
                yield place, "has more cells than the header has columns"
            else:
                yield place, {name: _cell(name, text, texts) for name, text in row.items()}


def json_rows(path: Path) -> Rows:
    """The objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    row = f"is not JSON: {error}"
                yield f":{number}", row if isinstance(row, dict | str) else "is not a JSON object"


def parquet_rows(path: Path) -> Rows:
    """The rows of a Parquet file."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield f" row {number}", row


def picture_of(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The picture that a row names, as a file or object (`path` or `object`, which mean the same) and as an address.

    `url` is the address where nothing else names a picture. Raises ValueError, saying what is wrong, for a row that names
    none, or several.
    """
    named = [row[column] for column in PICTURE_COLUMNS if column in row]
    address = row.get("image_url") or (None if named else row.get("url"))
    if len(named) > 1 or (not named) == (address is None):
        raise ValueError("names no picture: give one of `path`, `object` and `image_url`")
    return (str(named[0]) if named else None), (None if address is None else str(address))


def nested(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object in the column `metadata`, written as JSON text or as such; None when it is something else."""
    value = row.get("metadata", {})
    if isinstance(value, str):
        value = _parsed(value)
    return value if isinstance(value, dict) else None


def text(value: Any) -> str | None:
    """A cell as text."""
    return None if value is None else str(value)


def plain(value: Any) -> Any:
    """JSON values of what Parquet holds: times as ISO 8601 text, the rest that JSON lacks as text."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _cell(column: str, text: str | None, texts: Collection[str]) -> Any:
    """CSV knows text only: numbers and true/false become what they look like, but never in columns of `texts`."""
    if text is None or (column in texts and column != "metadata"):
        return text
    if column == "metadata":
        return _parsed(text) if text else None
    if text in ("true", "false"):
        return text == "true"
    match = _NUMBER.fullmatch(text)
    return (float(text) if match.group(2) else int(text)) if match else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
