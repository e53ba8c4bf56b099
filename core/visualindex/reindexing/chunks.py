"""A chunk as an object: the list of its images before it is encoded, and all that was made of them afterwards.

Both are Arrow IPC streams, so that any tool can look into them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa

from visualindex.catalog import Encoded, Refused
from visualindex.errors import ProblemError, ProblemType

ARROW = "application/vnd.apache.arrow.stream"
_ACCOUNT = b"visualindex.account"
_ID, _DIGEST = pa.binary(16), pa.binary(32)
_TODO = pa.schema([("image_id", _ID), ("digest", _DIGEST), ("encode", pa.bool_()), ("colours", pa.bool_())])
_DONE = pa.schema(
    [
        ("image_id", _ID),
        ("digest", _DIGEST),
        ("vector", pa.large_binary()),
        ("colours", pa.large_binary()),
        ("patches", pa.large_binary()),
        ("reason", pa.utf8()),
        ("detail", pa.utf8()),
    ]
)


@dataclass(frozen=True, slots=True)
class Todo:
    """An image of a plan: its content, and whether vector and patches (`encode`) and `colours` are to be made."""

    image_id: UUID
    digest: bytes
    encode: bool
    colours: bool


@dataclass(frozen=True)
class Account:
    """What a chunk took. `retries` are reads of originals that were tried again."""

    images: int = 0
    encoded: int = 0
    bytes: int = 0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    retries: int = 0

    def __add__(self, other: "Account") -> "Account":
        """Both together."""
        return Account(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Account":
        """The inverse of `to_json`; members of other releases are passed over."""
        return cls(**{f.name: document[f.name] for f in fields(cls) if f.name in document})


@dataclass(frozen=True)
class Done:
    """A finished chunk."""

    encoded: Sequence[Encoded]
    refused: Sequence[Refused]
    account: Account


def pack_todo(images: Sequence[Todo]) -> bytes:
    """The list of a chunk."""
    rows = [
        {"image_id": i.image_id.bytes, "digest": i.digest, "encode": i.encode, "colours": i.colours}
        for i in images
    ]
    return _written(pa.Table.from_pylist(rows, _TODO))


def unpack_todo(data: bytes, key: str) -> list[Todo]:
    """The inverse of `pack_todo`. Raises ProblemError INTERNAL naming the object `key` when it is none."""
    table = _read(data, key, _TODO)
    columns = zip(*(table[name].to_pylist() for name in _TODO.names), strict=True)
    return [Todo(UUID(bytes=i), digest, encode, colours) for i, digest, encode, colours in columns]


def pack_done(done: Done) -> bytes:
    """A finished chunk."""
    rows: list[dict[str, Any]] = [
        {
            "image_id": one.image_id.bytes,
            "digest": one.content_digest,
            "vector": one.vector,
            "colours": one.colours,
            "patches": one.patches,
        }
        for one in done.encoded
    ]
    rows += [
        {
            "image_id": one.image_id.bytes,
            "digest": one.content_digest,
            "reason": one.reason,
            "detail": one.detail,
        }
        for one in done.refused
    ]
    account = {_ACCOUNT: orjson.dumps(done.account.to_json())}
    return _written(pa.Table.from_pylist(rows, _DONE).replace_schema_metadata(account))


def unpack_done(data: bytes, key: str) -> Done:
    """The inverse of `pack_done`. Raises ProblemError INTERNAL naming the object `key` when it is none."""
    table = _read(data, key, _DONE)
    encoded, refused = list[Encoded](), list[Refused]()
    for row in zip(*(table[name].to_pylist() for name in _DONE.names), strict=True):
        image_id, digest, vector, colours, patches, reason, detail = row
        if reason is None:
            encoded.append(Encoded(UUID(bytes=image_id), digest, vector, colours, patches))
        else:
            refused.append(Refused(UUID(bytes=image_id), digest, reason, detail))
    account = (table.schema.metadata or {}).get(_ACCOUNT, b"{}")
    return Done(encoded, refused, Account.of(orjson.loads(account)))


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _read(data: bytes, key: str, schema: pa.Schema) -> pa.Table:
    try:
        table = pa.ipc.open_stream(data).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(key, str(error)) from error
    if not table.schema.equals(schema):
        raise _damaged(key, "it has other columns")
    return table


def _damaged(key: str, why: str) -> ProblemError:
    detail = f"object {key} is no chunk of a plan ({why}): cancel the job and ask for it again"
    return ProblemError(ProblemType.INTERNAL, detail)
