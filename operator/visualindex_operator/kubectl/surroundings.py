"""An index and everything that was made for it, read from the cluster at one moment."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.status import Status
from visualindex_operator import names
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Object

_KUBERAY_SUFFIX = "[bcdfghjklmnpqrstvwxz2456789]{5}"
"""How KubeRay ends the name of a RayCluster it makes for a RayService; pods and services go on from there."""


@dataclass(frozen=True)
class Surroundings:
    """A VisualIndex, its children, and the events of all of them, oldest first."""

    index: Object
    ray_service: Object | None = None
    ray_clusters: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    jobs: list[Object] = field(default_factory=list)
    network_policies: list[Object] = field(default_factory=list)
    disruption_budgets: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """What the caller may not read, one line each."""

    @property
    def name(self) -> str:
        """Name of the index."""
        return str(self.index["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the index and its children."""
        return str(self.index["metadata"]["namespace"])

    @property
    def status(self) -> Status:
        """What the operator reported."""
        return status_of(self.index)

    @property
    def cluster(self) -> str:
        """The RayService; in mode External the address of the cluster."""
        return cluster_of(self.index)


def status_of(index: Object) -> Status:
    """The status of a VisualIndex. ProblemError when a newer operator wrote what this release cannot read."""
    try:
        return Status.model_validate(index.get("status") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        detail = (
            f"status.{place} is not understood ({first['msg']}): use the plugin of the operator's release"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def cluster_of(index: Object) -> str:
    """The Ray cluster an index runs on, as far as it is known."""
    ray = index.get("spec", {}).get("ray", {})
    reported = (index.get("status") or {}).get("cluster")
    return str(reported or ray.get("cluster") or index["metadata"]["name"])


async def read_index(cluster: Cluster, name: str) -> Object:
    """The VisualIndex; ProblemError says which ones there are when it is not there."""
    try:
        return await cluster.get(paths.index(cluster.namespace, name), f"VisualIndex {name}")
    except ProblemError as problem:
        if problem.type is not ProblemType.NOT_FOUND:
            raise
        raise ProblemError(ProblemType.NOT_FOUND, await _others(cluster, name)) from None


async def _others(cluster: Cluster, name: str) -> str:
    try:
        found = await cluster.items(paths.indexes(cluster.namespace), "VisualIndexes")
    except ProblemError:
        return "the cluster knows no VisualIndex resources: install the operator's chart first"
    there = ", ".join(sorted(index["metadata"]["name"] for index in found)) or "none"
    return f"namespace {cluster.namespace} has no VisualIndex '{name}': it has {there} (-n names another namespace)"


async def surroundings(cluster: Cluster, name: str) -> Surroundings:
    """Everything about one index. What the caller may not read is left out and named."""
    index = await read_index(cluster, name)
    unreadable: list[str] = []
    children = {names.CLUSTER_LABEL: names.cluster_label(cluster_of(index))}
    own = {names.INDEX_LABEL: name}
    originated = {"ray.io/originated-from-cr-name": cluster_of(index)}

    async def listed(path: str, what: str, labels: dict[str, str]) -> list[Object]:
        return await _readable(cluster.items(path, what, **_selector(labels)), unreadable)

    namespace = cluster.namespace
    services, clusters, jobs, policies, budgets, events = await asyncio.gather(
        listed(paths.ray(namespace, "rayservices"), "RayServices", {}),
        listed(paths.ray(namespace, "rayclusters"), "RayClusters", originated),
        listed(paths.group(namespace, "batch/v1", "jobs"), "Jobs", own),
        listed(
            paths.group(namespace, "networking.k8s.io/v1", "networkpolicies"), "NetworkPolicies", children
        ),
        listed(paths.group(namespace, "policy/v1", "poddisruptionbudgets"), "PodDisruptionBudgets", children),
        listed(paths.core(namespace, "events"), "Events", {}),
    )
    clusters += await _rebuilding(index, listed, namespace)
    ray_clusters = [ray_cluster["metadata"]["name"] for ray_cluster in clusters]
    pods = await _readable(pods_of(cluster, ray_clusters), unreadable)
    found = Surroundings(
        index,
        next((s for s in services if s["metadata"]["name"] == cluster_of(index)), None),
        by_age(clusters),
        sorted(pods, key=_pod_order),
        by_age(jobs),
        by_age(policies),
        by_age(budgets),
        [],
        unreadable,
    )
    found.events.extend(sorted((e for e in events if concerns(found, e)), key=event_time))
    return found


async def _rebuilding(
    index: Object, listed: Callable[[str, str, dict[str, str]], Awaitable[list[Object]]], namespace: str
) -> list[Object]:
    """The RayClusters of the RayJob that rebuilds the index, if one does."""
    status = status_of(index)
    if status.reindex is None or not status.reindex.run:
        return []
    of_run = {"ray.io/originated-from-cr-name": status.reindex.run}
    return await listed(paths.ray(namespace, "rayclusters"), "RayClusters", of_run)


async def pods_of(cluster: Cluster, ray_clusters: list[str]) -> list[Object]:
    """The pods of RayClusters."""
    if not ray_clusters:
        return []
    selector = f"ray.io/cluster in ({','.join(ray_clusters)})"
    return await cluster.items(paths.core(cluster.namespace, "pods"), "Pods", labelSelector=selector)


def concerns(found: Surroundings, event: Object) -> bool:
    """Whether an event is about the index, one of its children, or a pod that was one."""
    about = event["involvedObject"]
    kind, name = about.get("kind", ""), about.get("name", "")
    if kind == "VisualIndex":
        return bool(name == found.name)
    if kind == "RayService":
        return bool(name == found.cluster)
    run = found.status.reindex.run if found.status.reindex is not None else ""
    if run and (name == run or name.startswith(f"{run}-")):
        return True
    if re.match(rf"{re.escape(found.cluster)}-{_KUBERAY_SUFFIX}(-|$)", name):
        return True
    children = [*found.jobs, *found.network_policies, *found.disruption_budgets, *found.pods]
    if name in {child["metadata"]["name"] for child in children}:
        return True
    return any(name.startswith(f"{job['metadata']['name']}-") for job in found.jobs)


def event_time(event: Object) -> str:
    """When an event was last seen, RFC 3339; times of both event APIs sort as text."""
    series = event.get("series") or {}
    seen = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(seen or event["metadata"].get("creationTimestamp") or "")


def by_age(objects: list[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(
        objects, key=lambda o: (o["metadata"].get("creationTimestamp") or "", o["metadata"]["name"])
    )


def _pod_order(pod: Object) -> tuple[str, bool, str]:
    labels = pod["metadata"].get("labels", {})
    return labels.get("ray.io/cluster", ""), labels.get("ray.io/node-type") != "head", pod["metadata"]["name"]


def _selector(labels: dict[str, str]) -> dict[str, str]:
    # What is no label value, an address of mode External, selects nothing and is refused by the server.
    usable = all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", v) for v in labels.values())
    if not labels:
        return {}
    return {"labelSelector": ",".join(f"{k}={v if usable else 'none'}" for k, v in labels.items())}


async def _readable(listing: Awaitable[list[Object]], unreadable: list[str]) -> list[Object]:
    """The list; empty when its kind is not installed, and named in `unreadable` when it may not be read."""
    try:
        return await listing
    except ProblemError as problem:
        if problem.type is ProblemType.FORBIDDEN:
            unreadable.append(problem.detail)
        elif problem.type is not ProblemType.NOT_FOUND:
            raise
        return []
