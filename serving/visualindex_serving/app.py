"""Application builders: what Serve runs for a list of specs. Named by import path in the Serve configuration."""

import math
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from visualindex.serve_config import ENCODER_CPUS, GATEWAY_CPUS, SHARD_CPUS
from visualindex.spec import Spec, VisualIndex
from visualindex_serving.config import ENCODER_DEPLOYMENT, read_specs
from visualindex_serving.encoder_deployment import EncoderReplica
from visualindex_serving.encoding import in_gateway
from visualindex_serving.gateway import Gateway, create_app
from visualindex_serving.shard_deployment import Shard

_EVERY: dict[str, Any] = {
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "graceful_shutdown_timeout_s": 10,
    "logging_config": {
        "enable_access_log": False,  # a line per call on both sides of a hop; metrics count them
        "log_level": "WARNING",  # at INFO Serve makes that line all the same and drops it afterwards
    },
}


def build_index(args: dict[str, Any]) -> Application:
    """The application of one index: a deployment per shard, and the encoder where it is not in the gateway.

    `args` is `{"index": VisualIndex document}`. Shard 0 is the application's root because Serve needs one.
    """
    document = args["index"]
    (resource,) = read_specs([document])
    nodes = _alive_nodes()
    others = [_shard(resource, n, nodes).bind(document, n) for n in range(1, resource.spec.index.shards)]
    encoder = [] if in_gateway(resource.spec.encoder) else [_encoder(resource.spec).bind(document)]
    root: Application = _shard(resource, 0, nodes).bind(document, 0, *others, *encoder)
    return root


def build_gateway(args: dict[str, Any]) -> Application:
    """The application of the HTTP front. `args` is `{"indexes": [VisualIndex documents]}`."""
    resources = read_specs(args["indexes"])

    def builder() -> FastAPI:  # Serve tells builders from applications by their being functions
        return create_app(args["indexes"])

    limit = max(r.spec.gateway.max_concurrent_requests for r in resources)
    deployment: Any = serve.deployment(
        serve.ingress(builder)(Gateway),
        name="gateway",
        num_replicas=max(r.spec.replicas(r.spec.gateway.replicas) for r in resources),
        max_ongoing_requests=limit * 4,
        ray_actor_options={"num_cpus": GATEWAY_CPUS},
        **_EVERY,
    )
    application: Application = deployment.bind()
    return application


def _shard(resource: VisualIndex, number: int, nodes: int) -> Any:
    spec = resource.spec
    replicas = spec.replicas(spec.index.replicas)
    return serve.deployment(
        Shard,
        name=f"shard-{number}",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": SHARD_CPUS, "memory": spec.index.memory_per_shard},
        max_replicas_per_node=replicas_per_node(replicas, nodes),
        max_surge_percent=100,
        **_EVERY,
    )


def _encoder(spec: Spec) -> Any:
    return serve.deployment(
        EncoderReplica,
        name=ENCODER_DEPLOYMENT,
        num_replicas=spec.replicas(spec.encoder.replicas),
        max_ongoing_requests=spec.encoder.max_batch_size * 4,
        ray_actor_options={"num_cpus": ENCODER_CPUS, "num_gpus": spec.encoder.num_gpus},
        **_EVERY,
    )


def replicas_per_node(replicas: int, nodes: int) -> int:
    """Most replicas of a shard on one node: as few as the nodes allow, so that losing a node leaves the others."""
    return max(1, math.ceil(replicas / max(1, nodes)))


def _alive_nodes() -> int:
    if not ray.is_initialized():
        return 1
    return len([n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) > 0])  # type: ignore[no-untyped-call]
