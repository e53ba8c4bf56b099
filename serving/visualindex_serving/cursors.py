"""Opaque cursors: a search continues from its last hit without its picture being sent or encoded again.

A cursor carries the query vector, the filter and the last hit's score and id, and where the first hits were reranked
those that are still to be shown. It is input like any other: a key's
mandatory filter and the limits are applied again on every page, so a forged one finds nothing that a search would not.
"""

import base64
import struct
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from visualindex.errors import ProblemError
from visualindex_serving.messages import Float32, Value
from visualindex_serving.problems import invalid
from visualindex_serving.result_page import Pending
from visualindex_serving.vision import normalised

MAX_DEPTH = 1000
"""Hits a cursor leads to: a search that went deeper would cost every shard as many candidates."""

_MAGIC = b"v1"
_MAGIC_PENDING = b"v2"
"""Of a cursor with hits that are still to be shown: the release before would leave them out, so it must not read it."""
_PENDING = struct.Struct("<16sf")
_MAX_PENDING = 200
_MAX_EXCLUDED = 16


@dataclass(frozen=True)
class Cursor:
    """Where a search stands: what it asks, how deep it is and the last hit it showed. `vector` is float32[d]."""

    index: str
    fingerprint: str
    vector: Float32
    filter: dict[str, Any] | None
    exclude: tuple[uuid.UUID, ...]
    min_score: float | None
    depth: int
    last_score: float
    last_id: uuid.UUID
    domains: tuple[str, ...] = ()
    """Whose least scores hold for the pages that follow; their filter is in `filter` already."""
    group: tuple[str, int] | None = None
    sort: tuple[str, Literal["asc", "desc"]] | None = None
    last_key: Value | None = None
    """The value that sorted the last hit."""
    pending: Pending = ()

    def encode(self) -> str:
        """The cursor as URL-safe text."""
        head = {
            "i": self.index,
            "f": self.fingerprint,
            "q": self.filter,
            "x": self.exclude,
            "m": self.min_score,
            "n": self.depth,
            "s": self.last_score,
            "l": self.last_id,
            "d": self.domains,
            "g": self.group,
            "o": self.sort,
            "k": self.last_key,
        }
        if self.pending:
            head["r"] = base64.b64encode(_packed(self.pending)).decode()
        text = orjson.dumps(head)
        packed = (
            (_MAGIC_PENDING if self.pending else _MAGIC)
            + struct.pack("<I", len(text))
            + text
            + self.vector.astype("<f4").tobytes()
        )
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(text: str) -> Cursor:
    """Read a cursor. Raises ProblemError INVALID_REQUEST when it is not one of ours."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if packed[:2] not in (_MAGIC, _MAGIC_PENDING):
            raise ValueError("version")
        (size,) = struct.unpack_from("<I", packed, 2)
        head = orjson.loads(packed[6 : 6 + size])
        cursor = Cursor(
            index=str(head["i"]),
            fingerprint=str(head["f"]),
            vector=_unit(np.frombuffer(packed[6 + size :], dtype="<f4")),
            filter=_mapping(head["q"]),
            exclude=tuple(uuid.UUID(x) for x in head["x"]),
            min_score=None if head["m"] is None else float(head["m"]),
            depth=int(head["n"]),
            last_score=float(head["s"]),
            last_id=uuid.UUID(head["l"]),
            domains=tuple(str(name) for name in head.get("d", ())),
            group=_group(head.get("g")),
            sort=_sort(head.get("o")),
            last_key=_key(head.get("k")),
            pending=_unpacked(base64.b64decode(head["r"], validate=True)) if "r" in head else (),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as exc:
        raise unusable("it is damaged or of another release; start the search again") from exc
    lists = ((cursor.exclude, _MAX_EXCLUDED), (cursor.pending, _MAX_PENDING))
    if not 0 <= cursor.depth <= MAX_DEPTH or any(len(held) > most for held, most in lists):
        raise unusable("it is damaged; start the search again")
    return cursor


def _packed(pending: Pending) -> bytes:
    return b"".join(_PENDING.pack(image_id.bytes, by) for image_id, by in pending)


def _unpacked(data: bytes) -> Pending:
    pending = tuple((uuid.UUID(bytes=image_id), float(by)) for image_id, by in _PENDING.iter_unpack(data))
    if not np.isfinite([by for _, by in pending]).all():
        raise ValueError("pending")
    return pending


def _unit(vector: Float32) -> Float32:
    """The vector itself, to the last bit, when it has unit length, so that scores are those of the page before."""
    normal = normalised(vector.tolist())
    return vector if np.allclose(vector, normal, atol=1e-6) else normal


def _mapping(value: object) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    raise ValueError("filter")


def _group(value: object) -> tuple[str, int] | None:
    match value:
        case None:
            return None
        case [str(field), int(size)] if 1 <= size <= MAX_DEPTH:
            return field, size
    raise ValueError("group")


def _sort(value: object) -> tuple[str, Literal["asc", "desc"]] | None:
    match value:
        case None:
            return None
        case [str(field), "asc" | "desc" as direction]:
            return field, direction
    raise ValueError("sort")


def _key(value: object) -> Value | None:
    match value:
        case None | str() | float():
            return value
        case int() if not isinstance(value, bool):
            return value
        case ["bool", bool(truth)]:
            return "bool", truth
    raise ValueError("key")


def unusable(why: str) -> ProblemError:
    """The problem of a cursor that does not continue anything here."""
    return invalid("/cursor", f"the cursor cannot be used: {why}")
