"""What `visualindex ingest` reads: folders, manifests and addresses, each as a stream of pictures with their fields."""

import csv
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visualindex.errors import ProblemError, ProblemType

MANIFEST = "manifest.jsonl"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})
"""File names that a folder's pictures end with, in lower case."""

_OWN_COLUMNS = frozenset({"path", "image_url", "key", "category", "url", "metadata"})
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")


@dataclass(frozen=True)
class Item:
    """One picture to index: a file (`path`) or an address (`image_url`), under the caller's key."""

    place: str
    """Where it was named, for messages: a file, or a manifest with its line."""
    key: str
    path: Path | None = None
    image_url: str | None = None
    category: str | None = None
    url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unusable:
    """An entry that names no picture, and why."""

    place: str
    reason: str


Entry = Item | Unusable


def read_source(source: str) -> Iterator[Entry]:
    """The pictures that a command-line argument names, in a stable order; a key that comes again is unusable.

    A folder (its `manifest.jsonl` if it has one), a `.csv`, `.jsonl`, `.ndjson` or `.parquet` manifest, a `.txt` list
    of addresses, one picture file, or an address. Raises ProblemError when it is none of them.
    """
    return _distinct(_read(source))


def no_pictures(source: str, unusable: Unusable | None = None) -> ProblemError:
    """The problem of a source that names no picture at all, or none but entries like `unusable`."""
    found = f" ({unusable.place}: {unusable.reason})" if unusable else ""
    return _refused(
        f"{source} holds no pictures{found}: name a folder with JPEG, PNG or WebP files, or a manifest"
    )


def _distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    first: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, Item) and entry.key in first:
            yield Unusable(entry.place, f"the key '{entry.key}' is already used in {first[entry.key]}")
        else:
            if isinstance(entry, Item):
                first[entry.key] = entry.place
            yield entry


def _read(source: str) -> Iterator[Entry]:
    if source.startswith(("http://", "https://")):
        return iter([Item(source, source, image_url=source)])
    path = Path(source)
    if path.is_dir():
        manifest = path / MANIFEST
        return _manifest(manifest) if manifest.is_file() else _folder(path)
    if not path.is_file():
        raise _refused(f"{source} does not exist: name a folder, a manifest, a picture or an http(s) address")
    if path.suffix.lower() in SUFFIXES:
        return iter([Item(source, path.name, path=path)])
    return _manifest(path)


def _folder(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _is_hidden(inside):
            yield Item(str(path), inside.as_posix(), path=path)


def _is_hidden(path: Path) -> bool:
    """Whether a file or a folder above it has a name with a leading dot, such as what macOS writes beside pictures."""
    return any(part.startswith(".") for part in path.parts)


def _manifest(path: Path) -> Iterator[Entry]:
    readers = {
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": _parquet_rows,
        ".txt": _address_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise _refused(f"{path} is neither a picture nor a manifest: manifests end with {known}")
    return _entries(reader(path), path.parent)


def _entries(rows: Iterable[tuple[str, Any]], base: Path) -> Iterator[Entry]:
    for place, row in rows:
        yield _entry(place, row, base) if isinstance(row, dict) else Unusable(place, str(row))


def _entry(place: str, row: dict[str, Any], base: Path) -> Entry:
    """A manifest's row as an item: columns that are not ours become metadata."""
    row = {name: value for name, value in row.items() if value is not None and value != ""}
    nested = row.get("metadata", {})
    if not isinstance(nested, dict):
        return Unusable(place, "`metadata` is not a JSON object")
    path, address = row.get("path"), row.get("image_url") or (None if "path" in row else row.get("url"))
    if (path is None) == (address is None):
        return Unusable(place, "names no picture: give `path`, or `image_url`, and not both")
    metadata = {**{name: value for name, value in row.items() if name not in _OWN_COLUMNS}, **nested}
    return Item(
        place,
        key=str(row.get("key") or path or address),
        path=base / str(path) if path is not None else None,
        image_url=None if address is None else str(address),
        category=_text(row.get("category")),
        url=_text(row.get("url")),
        metadata=_plain(metadata),
    )


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row:
                yield place, "has more cells than the header has columns"
            else:
                yield place, {name: _cell(name, text) for name, text in row.items()}


def _cell(column: str, text: str | None) -> Any:
    """CSV knows text only: numbers and true/false become what they look like, but never in our own columns."""
    if text is None or column in _OWN_COLUMNS - {"metadata"}:
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


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    row = f"is not JSON: {error}"
                yield f"{path}:{number}", row if isinstance(row, dict | str) else "is not a JSON object"


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row


def _address_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            address = line.strip()
            if not address or line.startswith("#"):
                continue
            usable = address.lower().startswith(("http://", "https://"))
            yield f"{path}:{number}", {"image_url": address} if usable else _no_address(number)


def _no_address(line: int) -> str:
    return f"line {line} is not an http(s) address"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    """JSON values of what Parquet holds: times as ISO 8601 text, the rest that JSON lacks as text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _refused(detail: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, detail)
