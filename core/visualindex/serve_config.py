"""From specs to what Ray Serve is told to run: pure functions, the same for a laptop and a cluster.

An application's arguments hold what its code reads and nothing else, because Serve replaces every replica of an
application whose arguments change. How many replicas there are and where they go are settings of its deployments, which
move nothing else. Byte-stable: specs that mean the same give equal configurations.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from visualindex.footprint import ENCODER_CPUS, GATEWAY_CPUS, RERANKER_CPUS, SHARD_CPUS, reranker_memory
from visualindex.spec import Spec, VisualIndex
from visualindex.spec.models import ReindexSpec
from visualindex.spec.served_encoder import identity_of

GATEWAY = "gateway"
"""The application of a local service's gateway, and the deployment of any gateway."""
ENCODER = "encoder"
"""The deployment of an encoder, in an application of its own."""
RERANKER = "reranker"
"""The deployment of an index's reranker, in its index's application; beside the shards, whose files it reads."""
PORT = 8000
"""Where Serve's proxy answers on a cluster."""
CANNOT_DEPLOY = 3
"""Exit code of a local head whose Ray runs but cannot deploy an application."""
ROLES = {"gateway": "visualindex-gateway", "shard": "visualindex-shard", "encoder": "visualindex-encoder"}
"""Ray resources of the nodes that take replicas of a role; a node offers 1, a replica takes ROLE_SHARE of it."""
ROLE_SHARE = 0.001
_QUIET = {
    # Metrics leave a process every 10 s; handing them over ten times a second only costs. Not much longer than a second:
    # the latencies kept meanwhile are observed in one go, and requests wait for that.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    # The log monitor copies logs to drivers, and ours do not ask for them: it need not look for any, ten times a second.
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "inf",
    # Figures of the node and of each process, read from /proc for the metrics: as often as those are collected.
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
}
"""Ray's periodic work at a rate that suits a service of a few replicas: it is taken from the searches. Nothing that finds
or mends a fault is here."""


def index_application(name: str) -> str:
    """The Serve application that holds an index's shards and rerankers."""
    return f"index-{name}"


def encoder_application(resource: VisualIndex) -> str:
    """The Serve application that holds the encoder of a resource, where that is a deployment.

    Named after the space of its vectors: while an index moves to another encoder both run, and calls of one can never
    reach the other. Apart from the shards, which stay when an encoder comes or goes.
    """
    return f"encoder-{resource.name}-{identity_of(resource.spec.encoder)}"


def gateway_application(name: str) -> str:
    """The Serve application that holds an index's gateways on a cluster."""
    return f"gateway-{name}"


def is_encoder_application(application: str, name: str) -> bool:
    """Whether an application, by its name, holds an encoder of that index."""
    return re.fullmatch(rf"encoder-{re.escape(name)}-[0-9a-f]{{8}}", application) is not None


def shards_application(name: str, shards: int) -> str:
    """The Serve application that holds so many shards beside an index of another number, while that changes."""
    return f"shards-{name}-{shards}"


def shard_deployment(number: int) -> str:
    """The deployment of a shard, in its index's application."""
    return f"shard-{number}"


def serve_config(
    resources: list[VisualIndex], *, host: str, port: int, others: Iterable[VisualIndex] = ()
) -> dict[str, Any]:
    """The Serve configuration of a local service: an application per index and encoder, and one gateway for all of them.

    `others` are resources with encoders that their indexes are served with besides that of the spec.
    """
    ordered = sorted(resources, key=lambda r: r.name)
    indexes = [_index(resource, _Nodes()) for resource in ordered]
    encoders = _encoder_applications([*ordered, *others], _Nodes())
    return _config([*indexes, *encoders, _gateway(GATEWAY, "/", ordered, _Nodes())], host=host, port=port)


def applications(
    resource: VisualIndex,
    *,
    route_prefix: str,
    environment: Mapping[str, str],
    workers: int,
    roles: bool = True,
) -> list[dict[str, Any]]:
    """The two applications of one index on a cluster, `index-NAME` and `gateway-NAME`.

    The gateway answers under `route_prefix`. `environment` is what the processes of this index get beside their node's
    (where its credentials are). Replicas are spread over `workers` nodes as evenly as that count allows; with `roles`
    they go only to nodes that offer the resource of their role (ROLES).
    """
    nodes = _Nodes(workers, roles)
    index = _index(resource, nodes)
    gateway = _gateway(gateway_application(resource.name), route_prefix, [resource], nodes)
    return [_with_environment(application, environment) for application in (index, gateway)]


def encoder_applications(
    resource: VisualIndex,
    others: Iterable[VisualIndex] = (),
    *,
    environment: Mapping[str, str],
    workers: int,
    roles: bool = True,
) -> list[dict[str, Any]]:
    """The applications `encoder-NAME-SPACE` of an index on a cluster, for every encoder that is a deployment.

    `others` are the resource with the encoders that it is served with besides its own.
    """
    found = _encoder_applications([resource, *others], _Nodes(workers, roles))
    return [_with_environment(application, environment) for application in found]


def shards_beside(
    resource: VisualIndex, *, environment: Mapping[str, str], workers: int, roles: bool = True
) -> dict[str, Any]:
    """The application that holds the shards of `resource` beside its index while that has another number of them."""
    found = {
        "name": shards_application(resource.name, resource.spec.index.shards),
        "route_prefix": None,
        "import_path": "visualindex_serving.app:build_shards",
        "args": {"index": _index_document(resource)},
        "deployments": _shards(resource.spec, _Nodes(workers, roles)),
    }
    return _with_environment(found, environment)


def cluster_config(applications: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The whole Serve configuration (`PUT /api/serve/applications/`, RayService `serveConfigV2`) of a cluster."""
    ordered = sorted(applications, key=lambda application: str(application["name"]))
    return _config(ordered, host="0.0.0.0", port=PORT)  # noqa: S104 - a pod's address is not known before it runs


def _config(applications: list[dict[str, Any]], *, host: str, port: int) -> dict[str, Any]:
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": None},
        "logging_config": {"encoding": "JSON"},
        "applications": applications,
    }


class _Nodes:
    """What is known of the nodes that replicas are placed on: how many, and whether they are told apart by role."""

    def __init__(self, count: int = 1, roles: bool = False) -> None:
        self._count = count
        self._roles = roles

    def placed(self, role: str, replicas: int, **resources: float) -> dict[str, Any]:
        """Settings of a deployment: its size, and what its replicas need of a node."""
        needs: dict[str, Any] = dict(resources)
        if self._roles:
            needs["resources"] = {ROLES[role]: ROLE_SHARE}
        spread = {"max_replicas_per_node": per_node(replicas, self._count)} if self._count > 1 else {}
        return {"num_replicas": replicas, "ray_actor_options": needs, **spread}


def per_node(replicas: int, nodes: int) -> int:
    """Most replicas of a deployment on one node: as few as the nodes allow, so that losing one leaves the others.

    A power of two: Serve replaces all replicas when it changes, which adding one replica should rarely do.
    """
    return 1 << (math.ceil(replicas / nodes) - 1).bit_length()


def _index(resource: VisualIndex, nodes: _Nodes) -> dict[str, Any]:
    spec = resource.spec
    deployments = _shards(spec, nodes)
    if spec.rerank.kept:
        deployments.append({"name": RERANKER, **_reranker(spec, nodes)})
    return {
        "name": index_application(resource.name),
        "route_prefix": None,
        "import_path": "visualindex_serving.app:build_index",
        "args": {"index": _index_document(resource)},
        "deployments": deployments,
    }


def _encoder_applications(resources: Iterable[VisualIndex], nodes: _Nodes) -> list[dict[str, Any]]:
    """One for each space of vectors: the first resource that names it says how it runs."""
    found: dict[str, dict[str, Any]] = {}
    for resource in resources:
        if not resource.spec.encoder.in_gateway:
            name = encoder_application(resource)
            found.setdefault(name, _encoder_application(name, resource, nodes))
    return [found[name] for name in sorted(found)]


def _encoder_application(name: str, resource: VisualIndex, nodes: _Nodes) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": None,
        "import_path": "visualindex_serving.app:build_encoder",
        "args": {"index": _encoder_document(resource)},
        "deployments": [{"name": ENCODER, **_encoder(resource.spec, nodes)}],
    }


def _shards(spec: Spec, nodes: _Nodes) -> list[dict[str, Any]]:
    replicas = spec.replicas(spec.index.replicas)
    gpus = {"num_gpus": spec.index.num_gpus} if spec.index.num_gpus else {}
    shard = nodes.placed("shard", replicas, num_cpus=SHARD_CPUS, memory=spec.index.memory_per_shard, **gpus)
    return [{"name": shard_deployment(number), **shard} for number in range(spec.index.shards)]


def _encoder(spec: Spec, nodes: _Nodes) -> dict[str, Any]:
    needs = {"num_cpus": ENCODER_CPUS, "num_gpus": spec.encoder.num_gpus}
    placed = nodes.placed("encoder", spec.replicas(spec.encoder.replicas), **needs)
    if spec.encoder.num_gpus:  # their own nodes, of another count: the GPUs say how many fit
        placed.pop("max_replicas_per_node", None)
    return placed


def _reranker(spec: Spec, nodes: _Nodes) -> dict[str, Any]:
    needs = {"num_cpus": RERANKER_CPUS, "memory": reranker_memory(spec)}
    return nodes.placed("shard", spec.replicas(spec.rerank.replicas), **needs)


def _gateway(name: str, route_prefix: str, resources: list[VisualIndex], nodes: _Nodes) -> dict[str, Any]:
    replicas = max(r.spec.replicas(r.spec.gateway.replicas) for r in resources)
    return {
        "name": name,
        "route_prefix": route_prefix,
        "import_path": "visualindex_serving.app:build_gateway",
        "args": {"indexes": [_gateway_document(resource) for resource in resources]},
        "deployments": [{"name": GATEWAY, **nodes.placed("gateway", replicas, num_cpus=GATEWAY_CPUS)}],
    }


def _with_environment(application: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    if not environment:
        return application
    return {**application, "runtime_env": {"env_vars": dict(sorted(environment.items()))}}


def _index_document(resource: VisualIndex) -> dict[str, Any]:
    """What shards and rerankers read of a resource: nothing of its encoder, which each generation names itself."""
    family = {"family"} if resource.spec.index.num_gpus else set()  # GPUs are refused without it
    fields: dict[str, Any] = {"index": _SHARD | family, "storage": _STORE, "ray": {"cache": {"size"}}}
    return _with_patches(resource, fields, _RERANKER)


def _encoder_document(resource: VisualIndex) -> dict[str, Any]:
    """What an encoder's deployment reads of a resource."""
    return _with_patches(resource, {"encoder": _ENCODER, "storage": _STORE}, {"mode", "projection"})


def _with_patches(resource: VisualIndex, fields: Mapping[str, Any], rerank: set[str]) -> dict[str, Any]:
    """The document, with those fields of `rerank` where the index keeps patches.

    Who reads it does the same for `auto` and `always`, and stays when one becomes the other.
    """
    if not resource.spec.rerank.kept:
        return _document(resource, fields)
    document = _document(resource, {**fields, "rerank": rerank})
    document["spec"]["rerank"]["mode"] = "always"
    return document


def job_document(resource: VisualIndex) -> dict[str, Any]:
    """What a job reads of a resource: the same as those that gateways have done, and no secret."""
    return _document(resource, _OF_GATEWAY)


def _gateway_document(resource: VisualIndex) -> dict[str, Any]:
    """What a gateway reads of a resource."""
    return _document(resource, _OF_GATEWAY)


_STORE: dict[str, Any] = {"folder": True, "s3": {"endpoint", "bucket", "prefix", "region", "secure"}}
_ENCODER = {
    "family",
    "model",
    "checkpoint",
    "dimension",
    "projection",
    "runtime",
    "device",
    "precision",
    "placement",
    "num_gpus",
    "max_batch_size",
    "batch_deadline_ms",
}
_SHARD = {
    "shards",
    "flat_below",
    "hnsw",
    "memory_per_shard",
    "num_gpus",
    "poll_interval_ms",
    "live_recall_sample",
}
_BUILT = {"shards", "family", "target_recall", "flat_below", "hnsw", "memory_per_shard", "metric"}
"""What decides how generations are built, which gateways have done."""
_RERANKER = {"mode", "cross_scorer", "memory"}
_OF_GATEWAY: dict[str, Any] = {
    "encoder": _ENCODER,
    "index": _BUILT | {"keep_generations", "fold"},
    "generation": True,
    "gateway": {"max_concurrent_requests", "decode_workers", "record_cache"},
    "postgres": {"max_connections"},
    "storage": {
        "folder": True,
        "thumbnail_sizes": True,
        "s3": {"endpoint", "bucket", "prefix", "region", "secure"},
    },
    "limits": True,
    "fetch": True,
    "ingest": True,
    "access": {"mode", "thumbnails"},
    "search_log": True,
    "attributes": True,
    "domains": True,
    "reindex": set(ReindexSpec.model_fields) - {"cluster"},  # pods of which the operator alone knows
    # Jobs, which gateways have done, fetch generations: to compare, and for their patches.
    "ray": {"cache": {"size"}},
    "rerank": {"mode", "candidates", "budget_ms", "exact_image", "projection"},
}


def _document(resource: VisualIndex, fields: Mapping[str, Any]) -> dict[str, Any]:
    """These fields of a resource as plain JSON, without those that have their defaults."""
    spec = resource.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=dict(fields))
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": resource.name},
        "spec": {name: value for name, value in spec.items() if value},
    }


def serve_environment(resources: list[VisualIndex]) -> dict[str, str]:
    """The environment Ray Serve needs on head and workers: HAProxy ingress, throughput mode, deadlines, thread counts.

    A cluster replaces its pods when it changes, so the deadlines move in coarse steps.
    """
    limits = [r.spec.limits for r in resources]
    search_ms = max(one.search_timeout_ms for one in limits)
    slowest_ms = max(search_ms, *(one.write_timeout_ms * 3 for one in limits))
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(_seconds_above(slowest_ms + 5000)),
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",  # a picture passes in a few pieces, not in dozens
        "VISUALINDEX_SEARCH_TIMEOUT_MS": str(_seconds_above(search_ms + 1000) * 1000),
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **_QUIET,
    }


def _seconds_above(milliseconds: int) -> int:
    """The first of 5, 10, 20, 40, … seconds that is not shorter."""
    seconds = 5
    while seconds * 1000 < milliseconds:
        seconds *= 2
    return seconds
