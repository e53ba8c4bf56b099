"""From stored bytes to a manifest: nothing is believed that was not checked."""

import json
import re
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.manifest import (
    FORMAT,
    PART_BYTES,
    FileEntry,
    Manifest,
    ShardFiles,
    document_digest,
    file_digest,
)

_OLDEST = max(1, FORMAT - 1)
_BUCKETS = 2**16
_Count = Annotated[int, Field(ge=0)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Checksum = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_Name = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
_Bucket = Annotated[int, Field(ge=0, le=_BUCKETS)]


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _FileDocument(_Document):
    name: _Name
    bytes: _Count
    digest: _Sha256
    checksum: _Checksum
    parts: list[_Sha256]


class _ShardDocument(_Document):
    buckets: Annotated[list[_Bucket], Field(min_length=2, max_length=2)]
    images: _Count
    files: list[_FileDocument]


class _ManifestDocument(_Document):
    format: int
    index: str
    fingerprint: str
    dimension: Annotated[int, Field(ge=1)]
    metric: str
    watermark: str
    part_bytes: Annotated[int, Field(ge=1, le=PART_BYTES)]
    shards: list[_ShardDocument]
    parameters: dict[str, Any]
    recall: dict[str, Any]
    release: str
    created_at: str


def manifest_of(data: bytes) -> Manifest:
    """The manifest in `data`; ProblemError naming what is wrong. See `Manifest.from_json`."""
    document = _parsed(data)
    _check_format(document.get("format"))
    _check_digest(document)
    try:
        read = _ManifestDocument.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        _damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    shards = tuple(_shard(number, shard, read.part_bytes) for number, shard in enumerate(read.shards))
    return Manifest(**{**dict(read), "shards": shards})


def valid_name(name: str) -> str:
    """`name` itself when a manifest may list a file of this name; else ProblemError INVALID_REQUEST."""
    if re.fullmatch(_NAME, name):
        return name
    raise ProblemError(
        ProblemType.INVALID_REQUEST,
        f"a generation cannot hold a file named {name[:80]!r}: use at most 200 letters, digits, '-', '_' and inner '.'",
    )


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _damaged(f"it is not JSON ({str(error)[:100]})")
    if not isinstance(document, dict):
        _damaged("it is not a JSON object")
    return document


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _check_format(found: Any) -> None:
    if type(found) is not int:
        _damaged("its format is not a whole number")
    if not _OLDEST <= found <= FORMAT:
        remedy = (
            "upgrade this release, or activate a generation that it built"
            if found > FORMAT
            else "build a new generation"
        )
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"the generation's manifest has format {found}, this release reads {_OLDEST} to {FORMAT}: {remedy}",
        )


def _check_digest(document: dict[str, Any]) -> None:
    stated = document.pop("sha256", None)
    try:
        found = document_digest(document)
    except (ValueError, RecursionError):
        _damaged("it holds what no manifest can say")
    if stated != found:
        _damaged("its content does not have the digest that it states")


def _shard(number: int, shard: _ShardDocument, part_bytes: int) -> ShardFiles:
    start, stop = shard.buckets
    if start > stop:
        _damaged(f"shards.{number}.buckets: they end before they begin")
    names = [entry.name for entry in shard.files]
    if len(set(names)) < len(names):
        _damaged(f"shards.{number}.files: two have one name")
    files = tuple(_file(entry, part_bytes) for entry in shard.files)
    return ShardFiles(range(start, stop), shard.images, files)


def _file(entry: _FileDocument, part_bytes: int) -> FileEntry:
    parts = tuple(entry.parts)
    if len(parts) != -(-entry.bytes // part_bytes):
        _damaged(f"file {entry.name}: {len(parts)} parts cannot hold {entry.bytes} bytes")
    if file_digest(parts) != entry.digest:
        _damaged(f"file {entry.name}: its digest is not that of its parts")
    return FileEntry(entry.name, entry.bytes, entry.digest, entry.checksum, parts)


def _damaged(what: str) -> NoReturn:
    raise ProblemError(
        ProblemType.INTERNAL,
        f"the generation's manifest is damaged: {what}. Restore the object from a backup, or build a new generation",
    )
