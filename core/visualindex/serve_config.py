"""From specs to what Ray Serve is told to run: pure functions, the same for a laptop and a cluster.

One application per index, so that one index never takes another down, and one for the HTTP gateway. Byte-stable: equal
specs give equal configurations.
"""

from typing import Any

from visualindex.spec import Spec, VisualIndex

GATEWAY = "gateway"
GATEWAY_CPUS = 0.5
SHARD_CPUS = 0.25
ENCODER_CPUS = 0.5
CANNOT_DEPLOY = 3
"""Exit code of a local head whose Ray runs but cannot deploy an application."""
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
    """The Serve application that holds an index's shards and encoder."""
    return f"index-{name}"


def serve_config(resources: list[VisualIndex], *, host: str, port: int) -> dict[str, Any]:
    """The Serve configuration (`PUT /api/serve/applications/`, RayService `serveConfigV2`) of a service."""
    ordered = sorted(resources, key=lambda r: r.name)
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": None},
        "logging_config": {"encoding": "JSON"},
        "applications": [*(_index(resource) for resource in ordered), _gateway(ordered)],
    }


def _index(resource: VisualIndex) -> dict[str, Any]:
    return {
        "name": index_application(resource.name),
        "route_prefix": None,
        "import_path": "visualindex_serving.app:build_index",
        "args": {"index": document(resource)},
    }


def _gateway(resources: list[VisualIndex]) -> dict[str, Any]:
    return {
        "name": GATEWAY,
        "route_prefix": "/",
        "import_path": "visualindex_serving.app:build_gateway",
        "args": {"indexes": [document(resource) for resource in resources]},
    }


def document(resource: VisualIndex) -> dict[str, Any]:
    """The resource as plain JSON, without defaults, without the database's address: that comes from the environment."""
    plain: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    plain.get("spec", {}).get("postgres", {}).pop("dsn", None)
    plain["metadata"] = {"name": resource.name}
    return plain


def cpus_needed(resources: list[VisualIndex]) -> float:
    """The logical CPUs that all replicas of a service reserve together."""
    gateways = max(r.spec.replicas(r.spec.gateway.replicas) for r in resources)
    return gateways * GATEWAY_CPUS + sum(_index_cpus(r.spec) for r in resources)


def _index_cpus(spec: Spec) -> float:
    shards = spec.index.shards * spec.replicas(spec.index.replicas) * SHARD_CPUS
    return shards + spec.replicas(spec.encoder.replicas) * ENCODER_CPUS


def serve_environment(resources: list[VisualIndex]) -> dict[str, str]:
    """The environment Ray Serve needs on head and workers: HAProxy ingress, throughput mode, deadlines, thread counts."""
    slowest_ms = max(
        max(r.spec.limits.search_timeout_ms, r.spec.limits.write_timeout_ms * 3) for r in resources
    )
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(slowest_ms // 1000 + 5),
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",  # a picture passes in a few pieces, not in dozens
        "VISUALINDEX_SEARCH_TIMEOUT_MS": str(max(r.spec.limits.search_timeout_ms for r in resources) + 1000),
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
