"""Application builders: what Serve runs for a list of specs. Named by import path in the Serve configuration.

A deployment's size and place are settings in that configuration, not here. On a cluster Serve merges them in; the local
head, which hands Serve the built applications itself, adds them to the arguments as `deployments`.
"""

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from visualindex.serve_config import ENCODER, GATEWAY, RERANKER, shard_deployment
from visualindex.spec import EncoderSpec
from visualindex_serving.config import read_specs
from visualindex_serving.encoder_deployment import EncoderReplica
from visualindex_serving.gateway import STARTUP, Gateway, create_app
from visualindex_serving.rerank_deployment import RerankReplica
from visualindex_serving.reranker import MAX_QUEUED
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
    """The application of one index: a deployment per shard, and a reranker where it keeps patches.

    `args` is `{"index": VisualIndex document}`. Shard 0 is the application's root because Serve needs one.
    """
    document = args["index"]
    (resource,) = read_specs([document])
    spec = resource.spec
    others = [_shard(args, n).bind(document, n) for n in range(1, spec.index.shards)]
    reranker = [_reranker(args).bind(document)] if spec.rerank.kept else []
    root: Application = _shard(args, 0).bind(document, 0, *others, *reranker)
    return root


def build_shards(args: dict[str, Any]) -> Application:
    """The shards of an index alone, to stand beside an index that has another number of them. `args` as above."""
    document = args["index"]
    (resource,) = read_specs([document])
    others = [_shard(args, n).bind(document, n) for n in range(1, resource.spec.index.shards)]
    root: Application = _shard(args, 0).bind(document, 0, *others)
    return root


def build_encoder(args: dict[str, Any]) -> Application:
    """The application of an encoder that is a deployment. `args` as above."""
    document = args["index"]
    (resource,) = read_specs([document])
    root: Application = _encoder(args, resource.spec.encoder).bind(document)
    return root


def build_gateway(args: dict[str, Any]) -> Application:
    """The application of the HTTP front. `args` is `{"indexes": [VisualIndex documents]}`."""
    resources = read_specs(args["indexes"])

    def builder() -> FastAPI:  # Serve tells builders from applications by their being functions
        return create_app(args["indexes"], startup=STARTUP)

    limit = max(r.spec.gateway.max_concurrent_requests for r in resources)
    deployment: Any = serve.deployment(
        serve.ingress(builder)(Gateway), name=GATEWAY, max_ongoing_requests=limit * 4, **_EVERY
    )
    application: Application = _with_settings(deployment, args).bind()
    return application


def _shard(args: dict[str, Any], number: int) -> Any:
    return _with_settings(serve.deployment(Shard, name=shard_deployment(number), **_EVERY), args)


def _encoder(args: dict[str, Any], spec: EncoderSpec) -> Any:
    limit = spec.max_batch_size * 4
    deployment = serve.deployment(EncoderReplica, name=ENCODER, max_ongoing_requests=limit, **_EVERY)
    return _with_settings(deployment, args)


def _reranker(args: dict[str, Any]) -> Any:
    deployment = serve.deployment(RerankReplica, name=RERANKER, max_ongoing_requests=MAX_QUEUED * 2, **_EVERY)
    return _with_settings(deployment, args)


def _with_settings(deployment: Any, args: dict[str, Any]) -> Any:
    for settings in args.get("deployments", []):
        if settings["name"] == deployment.name:
            return deployment.options(**settings)
    return deployment
