"""Which version of everything there is: who finds the same again knows that nothing was written in between."""

from tests.operator_api.namespace import CHILDREN, Namespace


async def versions(namespace: Namespace) -> dict[str, str]:
    """The resourceVersion of every VisualIndex and every child."""
    kinds = ("VisualIndex", *CHILDREN)
    return {
        f"{kind}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for kind, objects in zip(kinds, await namespace.every(*kinds), strict=True)
        for one in objects
    }


async def ready(namespace: Namespace, *indexes: str) -> bool:
    """Whether these indexes, or all there are, answer searches, and no change is under way."""
    found = {one["metadata"]["name"]: one for one in await namespace.all("VisualIndex")}
    return all(_ready(found[name].get("status") or {}) for name in indexes or found)


async def are_ready(namespace: Namespace, *indexes: str) -> int:
    """How many of these indexes are."""
    found = await namespace.all("VisualIndex")
    return sum(_ready(one.get("status") or {}) for one in found if one["metadata"]["name"] in indexes)


def _ready(status: dict[str, object]) -> bool:
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}  # type: ignore[attr-defined]
    return (
        conditions.get("Ready") == "True"
        and conditions.get("ServingReady") == "True"
        and not status.get("plan")
    )
