"""Idempotency keys: what binds a caller's key to one request, so that a repeat is told from another request."""

import hashlib
from collections.abc import Sequence

import orjson
from starlette.requests import Request

from visualindex_serving.access import presented_key
from visualindex_serving.hashing import sha256
from visualindex_serving.ingest import Incoming, RequestKey
from visualindex_serving.problems import invalid

_MAX_LENGTH = 255


async def request_key(
    request: Request, index: str, call: str, incoming: Sequence[Incoming]
) -> RequestKey | None:
    """The idempotency key of a write, None without the header. Raises ProblemError INVALID_REQUEST for a bad one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_LENGTH or not key.isprintable():
        raise invalid("", f"Idempotency-Key must have 1 to {_MAX_LENGTH} printable characters")
    caller = hashlib.sha256((presented_key(request) or "").encode()).hexdigest()[:16]
    return RequestKey(f"{index}:{call}:{caller}", key, await _digest(incoming))


async def _digest(incoming: Sequence[Incoming]) -> bytes:
    parts: list[bytes] = []
    for one in incoming:
        head = [one.fields.model_dump(mode="json"), one.image_url, len(one.data or b"")]
        parts += [orjson.dumps(head, option=orjson.OPT_SORT_KEYS), one.data or b""]
    return await sha256(*parts)
