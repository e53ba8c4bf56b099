"""How many workers a running Ray cluster has. KubeRay gives the counts of a RayService to new Ray clusters only."""

from collections.abc import Mapping
from typing import Any

from visualindex_operator.kube import Kube

_COUNTS = ("replicas", "minReplicas", "maxReplicas")
Patch = list[dict[str, Any]]


async def ensure_worker_counts(kube: Kube, service: Mapping[str, Any]) -> list[str]:
    """Give the counts of a RayService to its Ray clusters, where the counts are all that differs."""
    namespace = service["metadata"]["namespace"]
    written = []
    for name in _clusters(service):
        cluster = await kube.get("RayCluster", namespace, name)
        patch = changes(cluster, service) if cluster is not None else []
        if patch:
            await kube.patch("RayCluster", namespace, name, patch)
            written.append(f"patched the worker counts of RayCluster {name}")
    return written


def changes(cluster: Mapping[str, Any], service: Mapping[str, Any]) -> Patch:
    """The JSON patch that gives a Ray cluster the counts of its RayService.

    A cluster that differs in anything else will be replaced, and is left alone. How many workers there are between least
    and most is the autoscaler's where it is on.
    """
    config = service["spec"]["rayClusterConfig"]
    wanted, present = config.get("workerGroupSpecs", []), cluster["spec"].get("workerGroupSpecs", [])
    if [_without_counts(group) for group in wanted] != [_without_counts(group) for group in present]:
        return []
    counts = _COUNTS[1:] if config.get("enableInTreeAutoscaling") else _COUNTS
    return [
        operation
        for number, (new, old) in enumerate(zip(wanted, present, strict=True))
        for count in counts
        if new.get(count) != old.get(count)
        for operation in _replace(f"/spec/workerGroupSpecs/{number}", new, count)
    ]


def _replace(path: str, group: Mapping[str, Any], count: str) -> Patch:
    """Only in the very group: others may have been written meanwhile."""
    return [
        {"op": "test", "path": f"{path}/groupName", "value": group["groupName"]},
        {"op": "add", "path": f"{path}/{count}", "value": group[count]},
    ]


def _clusters(service: Mapping[str, Any]) -> list[str]:
    status = service.get("status") or {}
    states = (status.get("activeServiceStatus") or {}, status.get("pendingServiceStatus") or {})
    return [state["rayClusterName"] for state in states if state.get("rayClusterName")]


def _without_counts(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in (*_COUNTS, "scaleStrategy")}
