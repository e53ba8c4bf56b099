"""Where the search API of an index is inside the cluster: which Service, and which pods stand behind it now."""

import random
from dataclasses import dataclass
from urllib.parse import urlsplit

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator import names
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster, Object
from visualindex_operator.kubectl.surroundings import cluster_of, status_of


@dataclass(frozen=True)
class Service:
    """A port of a Service, and the path under which an index answers there."""

    namespace: str
    name: str
    port: int
    path: str = ""


@dataclass(frozen=True)
class Backend:
    """A ready pod of a Service, and the port it listens on."""

    pod: str
    port: int


def search_service(index: Object) -> Service:
    """The Service of the search API: that of the reported endpoint, or before there is one, KubeRay's name for it."""
    endpoints = status_of(index).endpoints
    namespace = str(index["metadata"]["namespace"])
    if endpoints is None or not endpoints.search:
        return Service(namespace, names.serve_service(cluster_of(index)), names.SERVE_PORT)
    return parse_endpoint(endpoints.search, namespace)


def parse_endpoint(url: str, namespace: str) -> Service:
    """The Service that a URL inside the cluster names: `http://SERVICE[.NAMESPACE[.svc…]]:PORT/PATH`."""
    parts = urlsplit(url)
    name, *rest = (parts.hostname or "").split(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Service(rest[0] if rest else namespace, name, port, parts.path.rstrip("/"))


async def backends(cluster: Cluster, service: Service) -> list[Backend]:
    """The ready pods behind a Service's port, in random order. ProblemError when there are none."""
    port_name = await _port_name(cluster, service)
    slices = await cluster.items(
        paths.group(service.namespace, "discovery.k8s.io/v1", "endpointslices"),
        "EndpointSlices",
        labelSelector=f"kubernetes.io/service-name={service.name}",
    )
    found = [
        Backend(endpoint["targetRef"]["name"], int(port["port"]))
        for part in slices
        for port in part.get("ports") or []
        if (port.get("name") or "") == port_name
        for endpoint in part.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") and endpoint.get("targetRef", {}).get("kind") == "Pod"
    ]
    if not found:
        detail = f"no pod behind Service {service.name} is ready: `kubectl visualindex status` says why"
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    random.shuffle(found)
    return found


async def _port_name(cluster: Cluster, service: Service) -> str:
    try:
        path = f"{paths.core(service.namespace, 'services')}/{service.name}"
        document = await cluster.get(path, f"Service {service.name}")
    except ProblemError as problem:
        if problem.type is not ProblemType.NOT_FOUND:
            raise
        detail = (
            f"namespace {service.namespace} has no Service {service.name} yet: `kubectl visualindex status` says what "
            "is missing; an endpoint outside the cluster is reached by `visualindex search --service`"
        )
        raise ProblemError(ProblemType.NOT_FOUND, detail) from None
    ports = document["spec"]["ports"]
    chosen = next((port for port in ports if port["port"] == service.port), None)
    if chosen is None:
        shown = ", ".join(str(port["port"]) for port in ports)
        detail = f"Service {service.name} has no port {service.port}: it has {shown}"
        raise ProblemError(ProblemType.NOT_FOUND, detail)
    return str(chosen.get("name") or "")
