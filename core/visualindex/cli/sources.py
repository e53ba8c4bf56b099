"""What `visualindex ingest` reads: folders, manifests and addresses, each as a stream of pictures with their fields."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.manifest_rows import (
    COLUMNS,
    MANIFESTS,
    Rows,
    nested,
    picture_of,
    plain,
    reader_of,
    text,
)
from visualindex.ingesting.naming import PICTURES

MANIFEST = "manifest.jsonl"


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
    if path.suffix.lower() in PICTURES:
        return iter([Item(source, path.name, path=path)])
    return _manifest(path)


def _folder(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() in PICTURES and path.is_file() and not _is_hidden(inside):
            yield Item(str(path), inside.as_posix(), path=path)


def _is_hidden(path: Path) -> bool:
    """Whether a file or a folder above it has a name with a leading dot, such as what macOS writes beside pictures."""
    return any(part.startswith(".") for part in path.parts)


def _manifest(path: Path) -> Iterator[Entry]:
    reader = _address_rows if path.suffix.lower() == ".txt" else reader_of(path, COLUMNS)
    if path.suffix.lower() == ".tar":
        raise _refused(
            f"{path} is an archive: the service reads those (WebDataset), by `visualindex ingest --server-side`"
        )
    if reader is None:
        known = ", ".join((*MANIFESTS, ".txt"))
        raise _refused(f"{path} is neither a picture nor a manifest: manifests end with {known}")
    return _entries(path, reader(path))


def _entries(path: Path, rows: Rows) -> Iterator[Entry]:
    for where, row in rows:
        place = f"{path}{where}"
        yield _entry(place, row, path.parent) if isinstance(row, dict) else Unusable(place, str(row))


def _entry(place: str, row: dict[str, Any], base: Path) -> Entry:
    """A manifest's row as an item: columns that are not ours become metadata."""
    row = {name: value for name, value in row.items() if value is not None and value != ""}
    inner = nested(row)
    if inner is None:
        return Unusable(place, "`metadata` is not a JSON object")
    try:
        path, address = picture_of(row)
    except ValueError as error:
        return Unusable(place, str(error))
    metadata = {**{name: value for name, value in row.items() if name not in COLUMNS}, **inner}
    return Item(
        place,
        key=str(row.get("key") or path or address),
        path=base / path if path is not None else None,
        image_url=address,
        category=text(row.get("category")),
        url=text(row.get("url")),
        metadata=plain(metadata),
    )


def _address_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            address = line.strip()
            if not address or line.startswith("#"):
                continue
            usable = address.lower().startswith(("http://", "https://"))
            yield f":{number}", {"image_url": address} if usable else _no_address(number)


def _no_address(line: int) -> str:
    return f"line {line} is not an http(s) address"


def _refused(detail: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, detail)
