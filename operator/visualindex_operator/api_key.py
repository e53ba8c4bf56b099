"""A key out of the Secret with an index's API keys, for who asks its service for something."""

import base64
import json

from visualindex.errors import ProblemError, ProblemType

_ADMIN = "admin"


def first_key(secret: str, data: dict[str, str]) -> str:
    """A key from a Secret's entries, which are base64: the text of the key, or JSON with it under `key`."""
    if not data:
        detail = f"Secret {secret} holds no API key: give one with --api-key or VISUALINDEX_API_KEY"
        raise ProblemError(ProblemType.UNAUTHENTICATED, detail)
    entry = _ADMIN if _ADMIN in data else min(data)
    text = base64.b64decode(data[entry]).decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)["key"])
    except (ValueError, KeyError):
        detail = f"entry {entry} of Secret {secret} is no API key: it is the text `vi_…`, or JSON with `key`"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None
