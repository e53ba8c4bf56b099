"""Where the API server keeps what an index is made of."""

from visualindex.spec import API_VERSION


def indexes(namespace: str | None) -> str:
    """All VisualIndex resources of a namespace, or of all."""
    return f"/apis/{API_VERSION}{_within(namespace)}/visualindexes"


def index(namespace: str, name: str) -> str:
    """One VisualIndex."""
    return f"{indexes(namespace)}/{name}"


def ray(namespace: str, resource: str) -> str:
    """A kind of KubeRay: `rayservices`, `rayclusters`."""
    return f"/apis/ray.io/v1{_within(namespace)}/{resource}"


def core(namespace: str | None, resource: str) -> str:
    """A kind of the core group: `pods`, `events`, `secrets`."""
    return f"/api/v1{_within(namespace)}/{resource}"


def group(namespace: str, group_version: str, resource: str) -> str:
    """A kind of a named group, as in `batch/v1`, `jobs`."""
    return f"/apis/{group_version}{_within(namespace)}/{resource}"


def _within(namespace: str | None) -> str:
    return f"/namespaces/{namespace}" if namespace else ""
