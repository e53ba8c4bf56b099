"""Idempotency keys: what binds a caller's key to one request, so that a repeat is told from another request."""

import hashlib
import uuid
from collections.abc import Sequence

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from visualindex_serving.access import presented_key
from visualindex_serving.hashing import sha256
from visualindex_serving.ingest import Incoming, RequestKey
from visualindex_serving.problems import invalid

_MAX_LENGTH = 255
_EVENTS = uuid.UUID("6d0a3c5e-6c40-5f0e-9a55-0a1f6f6d1c11")


async def request_key(
    request: Request, index: str, call: str, incoming: Sequence[Incoming]
) -> RequestKey | None:
    """The idempotency key of a write, None without the header. Raises ProblemError INVALID_REQUEST for a bad one."""
    key = _given(request)
    if key is None:
        return None
    return RequestKey(f"{index}:{call}:{_caller(request)}", key, await _digest(incoming))


def event_ids(request: Request, index: str, events: Sequence[BaseModel]) -> list[uuid.UUID]:
    """Ids for events: the same again for the same events of one caller under one key, new ones without a key.

    Raises ProblemError INVALID_REQUEST for a bad key.
    """
    key = _given(request)
    if key is None:
        return [uuid.uuid4() for _ in events]
    base = f"{index}:{_caller(request)}:{key}"
    return [
        uuid.uuid5(_EVENTS, f"{base}:{place}:{event.model_dump_json()}") for place, event in enumerate(events)
    ]


def _given(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= _MAX_LENGTH and key.isprintable()):
        raise invalid("", f"Idempotency-Key must have 1 to {_MAX_LENGTH} printable characters")
    return key


def _caller(request: Request) -> str:
    return hashlib.sha256((presented_key(request) or "").encode()).hexdigest()[:16]


async def _digest(incoming: Sequence[Incoming]) -> bytes:
    parts: list[bytes] = []
    for one in incoming:
        head = [one.fields.model_dump(mode="json"), one.image_url, len(one.data or b"")]
        parts += [orjson.dumps(head, option=orjson.OPT_SORT_KEYS), one.data or b""]
    return await sha256(*parts)
