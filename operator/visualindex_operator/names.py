"""Names, labels and annotations of what the operator makes. Deterministic: a repeat finds what the first attempt made."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.spec.models import API_VERSION, KIND

GROUP, VERSION, PLURAL = "visualindex.dev", "v1alpha1", "visualindexes"
FIELD_MANAGER = "visualindex-operator"
FINALIZER = "visualindex.dev/cleanup"

CLUSTER_LABEL = "visualindex.dev/cluster"
INDEX_LABEL = "visualindex.dev/index"
NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_LABEL = "app.kubernetes.io/component"

PAUSED = "visualindex.dev/paused"
APPROVE = "visualindex.dev/approve"
REINDEX = "visualindex.dev/reindex"
"""Asks for a rebuild, once for each value."""
JOB, NUMBER, ATTEMPT, CHUNKS = (f"visualindex.dev/{name}" for name in ("job", "number", "attempt", "chunks"))
"""On a run of a rebuild: its job, and what is counted of the job's runs."""
DIGEST = "visualindex.dev/digest"
"""Digest of a manifest as it was applied: a field that is wanted no longer is missing nowhere, but changes this."""
SHAPE = "visualindex.dev/shape"
ADDED_AT = "visualindex.dev/added-at"
"""On a credentials Secret: when an entry was last added."""

SERVE_PORT, DASHBOARD_PORT, METRICS_PORT = 8000, 8265, 8080
KEYS_FOLDER = "/etc/visualindex/keys"


def credentials_secret(cluster: str) -> str:
    """The Secret that the pods of a cluster mount."""
    return f"{cluster}-credentials"


def api_keys_secret(index: str) -> str:
    """The Secret with an index's API keys where its spec names none."""
    return f"{index}-api-keys"


def serve_service(cluster: str) -> str:
    """The Service that KubeRay makes for a RayService's proxies."""
    return f"{cluster}-serve-svc"


def head_service(cluster: str) -> str:
    """The Service that KubeRay makes for a RayService's head."""
    return f"{cluster}-head-svc"


def job(index: str, purpose: str, inputs: Any) -> str:
    """The name of a job, another one whenever its inputs are."""
    return f"{index}-{purpose}-{digest(inputs)[:8]}"


def cluster_label(cluster: str) -> str:
    """The value of CLUSTER_LABEL: a RayService's name, or a short form of the address of an external cluster."""
    return cluster if "/" not in cluster else f"external-{digest(cluster)[:12]}"


def labels(cluster: str, index: str | None = None, part: str | None = None) -> dict[str, str]:
    """The labels by which children are found again."""
    own = {
        NAME_LABEL: "visualindex",
        MANAGED_BY: FIELD_MANAGER,
        CLUSTER_LABEL: cluster_label(cluster),
    }
    return {**own, **({INDEX_LABEL: index} if index else {}), **({PART_LABEL: part} if part else {})}


def owner(resource: Mapping[str, Any]) -> dict[str, Any]:
    """An owner reference to a VisualIndex: its children go when it goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": resource["metadata"]["name"],
        "uid": resource["metadata"]["uid"],
    }


def digest(value: Any) -> str:
    """A digest of any JSON value, the same for equal ones."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its own digest as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), DIGEST: digest(manifest)[:16]}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def owned(manifest: dict[str, Any], owners: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest as a child of these resources, sealed."""
    metadata = {**manifest["metadata"], "ownerReferences": [owner(resource) for resource in owners]}
    return sealed({**manifest, "metadata": metadata})
