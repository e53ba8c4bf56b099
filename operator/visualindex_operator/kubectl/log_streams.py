"""Where the lines of an index's logs come from: files of replicas inside pods, and what pods print."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Object
from visualindex_operator.kubectl.executing import output_lines
from visualindex_operator.kubectl.pods import phase
from visualindex_operator.kubectl.replica_logs import LISTING, Part, ReplicaLog, reading, replica_logs
from visualindex_operator.kubectl.surroundings import cluster_of, pods_of

RAY_CONTAINER = "ray"
_OPERATOR_LABELS = "app.kubernetes.io/name=visualindex-operator,app.kubernetes.io/component=operator"


@dataclass(frozen=True)
class Wanted:
    """Which lines to show."""

    part: Part | None
    """None: all replicas of the index."""
    tail: int | None
    follow: bool
    previous: bool


@dataclass(frozen=True)
class Source:
    """One place lines come from."""

    namespace: str
    pod: str
    container: str | None
    replica: ReplicaLog | None = None

    @property
    def label(self) -> str:
        """What its lines begin with."""
        return f"{self.pod}/{self.replica.label}" if self.replica else self.pod


async def sources(cluster: Cluster, index: Object, wanted: Wanted) -> list[Source]:
    """The places there are at this moment."""
    if wanted.part is Part.OPERATOR:
        pods = await cluster.items(paths.core(None, "pods"), "Pods", labelSelector=_OPERATOR_LABELS)
        return [Source(pod["metadata"]["namespace"], pod["metadata"]["name"], None) for pod in pods]
    pods = await _ray_pods(cluster, index)
    if wanted.part in (Part.HEAD, Part.WORKER):
        chosen = [pod for pod in pods if _node_type(pod) == wanted.part]
        return [Source(cluster.namespace, pod["metadata"]["name"], RAY_CONTAINER) for pod in chosen]
    running = [pod["metadata"]["name"] for pod in pods if phase(pod) == "Running"]
    return [source for pod in running for source in await _replicas(cluster, pod, index, wanted)]


async def lines(cluster: Cluster, source: Source, wanted: Wanted) -> AsyncIterator[str]:
    """The lines of one place: the last `tail` and, when followed, those that come."""
    if source.replica and source.container:
        command = reading(source.replica, wanted.tail, follow=wanted.follow)
        async for text in output_lines(
            cluster, source.pod, source.container, command, until_gone=wanted.follow
        ):
            yield text
        return
    path = f"{paths.core(source.namespace, 'pods')}/{source.pod}/log"
    query = {"container": source.container, "tailLines": wanted.tail}
    flags = {"follow": wanted.follow or None, "previous": wanted.previous or None}
    async for line in cluster.lines(path, f"the log of pod {source.pod}", **query, **flags):
        yield line.decode("utf-8", "replace")


async def _ray_pods(cluster: Cluster, index: Object) -> list[Object]:
    selector = f"ray.io/originated-from-cr-name={cluster_of(index)}"
    clusters = await cluster.items(
        paths.ray(cluster.namespace, "rayclusters"), "RayClusters", labelSelector=selector
    )
    return await pods_of(cluster, [found["metadata"]["name"] for found in clusters])


async def _replicas(cluster: Cluster, pod: str, index: Object, wanted: Wanted) -> list[Source]:
    listing = [line async for line in output_lines(cluster, pod, RAY_CONTAINER, LISTING)]
    name = str(index["metadata"]["name"])
    found = replica_logs(listing, name, wanted.part, ended=wanted.previous)
    return [Source(cluster.namespace, pod, RAY_CONTAINER, replica) for replica in found]


def _node_type(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get("ray.io/node-type", ""))
