"""What a namespace holds in the end, without what differs between two runs that went the same way."""

import json
import re
from typing import Any

from tests.operator_api.namespace import CHILDREN, Namespace

_KINDS = ("VisualIndex", *CHILDREN, "Service")
_RUN_OWN = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "generation",
)
_CHOSEN = ("clusterIP", "clusterIPs", "controller-uid", "batch.kubernetes.io/controller-uid")
_COUNTED = ("observedGeneration", "visualindex.dev/added-at")


async def end_state(namespace: Namespace) -> dict[str, Any]:
    """Every object of ours, by kind and name."""
    found: dict[str, Any] = {}
    for kind, objects in zip(_KINDS, await namespace.every(*_KINDS), strict=True):
        for one in objects:
            name = _nameless(one["metadata"]["name"])
            key = f"{kind}/{name}"
            assert key not in found, f"two of {key}"
            found[key] = _plain(one, namespace.name)
    return found


def _plain(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in (*_RUN_OWN, *_CHOSEN, *_COUNTED)}
        return {key: _value(key, item, namespace) for key, item in kept.items()}
    if isinstance(value, list):
        return [_plain(item, namespace) for item in value]
    if isinstance(value, str):
        return _nameless(value.replace(namespace, "NAMESPACE"))
    return value


def _value(key: str, value: Any, namespace: str) -> Any:
    """A digest covers uids, and a generated key is another one each time."""
    if key in ("visualindex.dev/digest", "admin") or key.endswith("last-applied-configuration"):
        return "…"
    return _plain(value, namespace)


def _nameless(text: str) -> str:
    """Jobs have the digest of their inputs in their names, uids and generated keys among them."""
    return re.sub(r"-(migrate|erase)-[0-9a-f]{8}", r"-\1-DIGEST", text)


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where two end states differ, in lines that a person can read; empty where they do not."""
    lines = []
    for key in sorted({*one, *other}):
        before, after = (json.dumps(state.get(key), sort_keys=True, indent=1) for state in (one, other))
        if before != after:
            pairs = set(before.splitlines()) ^ set(after.splitlines())
            lines.append(f"{key}: {sorted(pairs)[:12]}")
    return "\n".join(lines)
