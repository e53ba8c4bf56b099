"""The RayService of a group: a pure function of what the planner wants served."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from visualindex.credentials import DIGEST_VARIABLE, Credentials, files_environment
from visualindex.planning.plan import Serve, Served
from visualindex.planning.shape import ClusterShape, Group, copies
from visualindex.serve_config import ROLES, applications, cluster_config, encoder_applications
from visualindex.spec.models import RedisSpec
from visualindex_operator import names
from visualindex_operator.pods import container_security, merged, ray_pod
from visualindex_operator.settings import Settings

_OBJECT_STORE_BYTES = 256 * 1024**2
_AUTOSCALING = {
    "enableInTreeAutoscaling": True,
    "autoscalerOptions": {"version": "v2", "securityContext": container_security()},
}


def ray_service(
    namespace: str,
    cluster: str,
    serve: Serve,
    owners: Sequence[Mapping[str, Any]],
    credentials: Mapping[str, Credentials],
    settings: Settings,
) -> dict[str, Any]:
    """The manifest. `credentials` are those of each index, `owners` the resources that it serves."""
    shape = serve.shape
    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {
            "name": cluster,
            "namespace": namespace,
            "labels": names.labels(cluster),
            "annotations": {names.SHAPE: shape.identity()},
        },
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": {"type": "NewCluster"},
            "serveConfigV2": serve_config(serve.served, shape, credentials),
            "rayClusterConfig": _cluster(cluster, shape, settings),
        },
    }
    return names.owned(manifest, owners)


def serve_config(
    served: Sequence[Served], shape: ClusterShape, credentials: Mapping[str, Credentials]
) -> str:
    """The Serve configuration as KubeRay wants it: text that is the same for equal configurations."""
    found = [
        application for one in served for application in _applications(one, shape, credentials[one.name])
    ]
    return yaml.dump(cluster_config(found), Dumper=yaml.CSafeDumper, sort_keys=True, width=1000)


def _applications(one: Served, shape: ClusterShape, credentials: Credentials) -> list[dict[str, Any]]:
    environment = _files(one.name, credentials)
    workers = min(shape.workers, copies(one.spec))  # not of the whole cluster: who joins moves nobody
    return [
        *applications(one.resource, route_prefix=one.route_prefix, environment=environment, workers=workers),
        *encoder_applications(one.resource, one.beside, environment=environment, workers=workers),
    ]


def _files(index: str, credentials: Credentials) -> dict[str, str]:
    return files_environment(versioned(index, credentials), credentials)


def versioned(index: str, credentials: Credentials) -> str:
    """The name of one version of an index's credentials: old and new ones lie side by side while replicas are replaced."""
    return f"{index}.{credentials.digest()[:12]}"


def _cluster(cluster: str, shape: ClusterShape, settings: Settings) -> dict[str, Any]:
    pull_policy = shape.ray.image_pull_policy or settings.image_pull_policy
    workers = [_workers(cluster, shape, group, pull_policy) for group in shape.groups]
    autoscaled = any(group.max_replicas for group in shape.groups)
    return {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token"},
        **_fault_tolerance(shape.ray.redis),
        **(_AUTOSCALING if autoscaled else {}),
        "headGroupSpec": {
            "rayStartParams": {**start_parameters(shape.head), "dashboard-host": "0.0.0.0"},  # noqa: S104 - behind a token
            "template": _head(cluster, shape, pull_policy, autoscaled=autoscaled),
        },
        "workerGroupSpecs": workers,
    }


def _head(cluster: str, shape: ClusterShape, pull_policy: str, *, autoscaled: bool) -> dict[str, Any]:
    """The head's pod. Ray's autoscaler runs in it and asks the API server for pods: only then it has a token for that."""
    template = ray_pod(cluster, shape, shape.head, pull_policy)
    return merged(template, {"spec": {"automountServiceAccountToken": True}}) if autoscaled else template


def _workers(cluster: str, shape: ClusterShape, group: Group, pull_policy: str) -> dict[str, Any]:
    return {
        "groupName": group.name,
        "replicas": group.replicas,
        "minReplicas": group.replicas,
        "maxReplicas": max(group.max_replicas or 0, group.replicas),
        "rayStartParams": start_parameters(group),
        "template": ray_pod(cluster, shape, group, pull_policy),
    }


def start_parameters(group: Group) -> dict[str, str]:
    """What Ray on the pods of a group is started with."""
    resources = json.dumps({ROLES[role]: 1 for role in group.roles})
    return {
        "num-cpus": str(group.logical_cpus),
        "object-store-memory": str(_OBJECT_STORE_BYTES),
        "metrics-export-port": str(names.METRICS_PORT),
        **({"resources": f"'{resources}'"} if group.roles else {}),
    }


def _fault_tolerance(redis: RedisSpec | None) -> dict[str, Any]:
    if redis is None:
        return {}
    options: dict[str, Any] = {"redisAddress": redis.address}
    if redis.password_secret_ref is not None:
        reference = {"name": redis.password_secret_ref.name, "key": redis.password_secret_ref.key}
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return {"gcsFaultToleranceOptions": options}


def deployed_applications(live: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The applications that a live RayService was asked to run, by name; none where somebody made its text unreadable."""
    try:
        config = yaml.load(live.get("spec", {}).get("serveConfigV2") or "{}", Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return {}
    listed = config.get("applications") if isinstance(config, dict) else None
    return {app["name"]: app for app in listed or [] if isinstance(app, dict) and "name" in app}


def deployed_credentials(application: Mapping[str, Any]) -> str:
    """The digest of the secrets that an application was given."""
    environment = application.get("runtime_env")
    variables = environment.get("env_vars") if isinstance(environment, dict) else None
    return str(variables.get(DIGEST_VARIABLE, "")) if isinstance(variables, dict) else ""
