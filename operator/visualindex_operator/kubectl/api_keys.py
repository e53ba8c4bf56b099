"""The API key for an index: the one the caller gives, or one the index's Secret holds."""

import base64
import json

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator import names
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Object

_ADMIN = "admin"


async def api_key(cluster: Cluster, index: Object) -> str:
    """The key `admin` of the Secret with the index's keys, or its first. ProblemError when there is none to have."""
    named = index.get("spec", {}).get("access", {}).get("keysSecretRef")
    secret = str(named or names.api_keys_secret(index["metadata"]["name"]))
    try:
        document = await cluster.get(
            f"{paths.core(cluster.namespace, 'secrets')}/{secret}", f"Secret {secret}"
        )
    except ProblemError as problem:
        detail = f"{problem.detail}; or give a key with --api-key or VISUALINDEX_API_KEY"
        raise ProblemError(problem.type, detail) from None
    return first_key(secret, document.get("data") or {})


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
