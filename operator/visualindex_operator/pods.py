"""Pod templates of a Ray cluster: restricted, without a token of the API server, with a template of the user merged over."""

from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.credentials import DIRECTORY
from visualindex.planning.shape import ClusterShape, Group
from visualindex.spec.models import CacheSpec, PodSpec
from visualindex.spec.quantities import format_bytes
from visualindex_operator import names

USER = 65532
_PROXY = "/opt/visualindex/bin/visualindex-haproxy"
STATE_FOLDER = "/var/lib/visualindex"
_BY_NAME = ("containers", "initContainers", "volumes", "env", "volumeMounts", "ports", "imagePullSecrets")
_NAMES = {"volumeMounts": "mountPath", "ports": "containerPort"}
_WHOLE = ("env", "volumes")
"""Items of these say one thing or another: half of each, a value beside a reference, would be refused."""


def restricted(image: str, pull_policy: str) -> dict[str, Any]:
    """What every container of ours has: no rights, and no file system of its own to write to."""
    return {
        "image": image,
        "imagePullPolicy": pull_policy,
        "securityContext": container_security(),
    }


def container_security() -> dict[str, Any]:
    """The part of the restricted Pod Security Standard that containers state."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security() -> dict[str, Any]:
    """The part of the restricted Pod Security Standard that pods state."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def ray_pod(cluster: str, shape: ClusterShape, group: Group, pull_policy: str) -> dict[str, Any]:
    """The pod template of one group."""
    template = {
        "metadata": {"labels": _labels(cluster, group)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(),
            "terminationGracePeriodSeconds": 60,
            "containers": [_container(shape, group, pull_policy)],
            "volumes": _volumes(cluster, shape.ray.cache),
            "topologySpreadConstraints": [_spread(cluster, group)],
            **placement(group.pod),
            **_pull_secrets(shape),
        },
    }
    whole: dict[str, Any] = merged(template, group.pod.template or {})
    return whole


def _labels(cluster: str, group: Group) -> dict[str, str]:
    """Without the name of the product: KubeRay's Service for a RayService's head asks for pods of its own name."""
    labels = names.labels(cluster, part=group.name)
    return {key: value for key, value in labels.items() if key != names.NAME_LABEL}


def _container(shape: ClusterShape, group: Group, pull_policy: str) -> dict[str, Any]:
    memory = format_bytes(group.memory)
    gpus = {group.gpu_resource: str(group.gpus)} if group.gpus else {}
    return {
        "name": "ray",
        **restricted(str(shape.ray.image), pull_policy),
        "env": environment(
            {**shape.environment, "RAY_SERVE_HAPROXY_BINARY_PATH": _PROXY, "VISUALINDEX_MODE": "cluster"}
        ),
        "ports": _ports(group),
        "resources": {
            "requests": {"cpu": f"{group.cpu_millis}m", "memory": memory, **gpus},
            "limits": {"memory": memory, **gpus},
        },
        "volumeMounts": [
            {"name": "state", "mountPath": STATE_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "credentials", "mountPath": DIRECTORY, "readOnly": True},
        ],
    }


def environment(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """Environment variables as Kubernetes lists them."""
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def _ports(group: Group) -> list[dict[str, Any]]:
    ports = {"serve": names.SERVE_PORT, "metrics": names.METRICS_PORT}
    if group.name.endswith("head"):
        ports = {"gcs": 6379, "client": 10001, "dashboard": names.DASHBOARD_PORT, **ports}
    return [{"name": name, "containerPort": port} for name, port in ports.items()]


def _volumes(cluster: str, cache: CacheSpec) -> list[dict[str, Any]]:
    size = format_bytes(cache.size)
    state: dict[str, Any] = {"name": "state", "emptyDir": {"sizeLimit": size}}
    if cache.storage_class is not None:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": cache.storage_class,
            "resources": {"requests": {"storage": size}},
        }
        state = {"name": "state", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    secret = {"secretName": names.credentials_secret(cluster), "optional": True}
    return [
        state,
        {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
        {"name": "credentials", "secret": secret},
    ]


def _spread(cluster: str, group: Group) -> dict[str, Any]:
    """Pods of a group on as many nodes as there are; never a reason not to start."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {names.CLUSTER_LABEL: cluster, names.PART_LABEL: group.name}},
    }


def placement(pod: PodSpec) -> dict[str, Any]:
    """Where pods may run and how important they are."""
    found = {
        "nodeSelector": dict(pod.node_selector),
        "tolerations": list(pod.tolerations),
        "priorityClassName": pod.priority_class_name,
    }
    return {key: value for key, value in found.items() if value}


def _pull_secrets(shape: ClusterShape) -> dict[str, Any]:
    secrets = [{"name": name} for name in shape.ray.image_pull_secrets]
    return {"imagePullSecrets": secrets} if secrets else {}


def merged(base: Any, override: Any, key: str = "") -> Any:
    """`override` over `base`: mappings key by key, named lists item by item, anything else replaced."""
    if isinstance(base, dict) and isinstance(override, dict):
        return {
            name: merged(base.get(name), override[name], name) if name in override else base[name]
            for name in {**base, **override}
        }
    if isinstance(base, list) and isinstance(override, list) and key in _BY_NAME:
        return _merged_by_name(base, override, _NAMES.get(key, "name"), whole=key in _WHOLE)
    return override


def _merged_by_name(base: Sequence[Any], override: Sequence[Any], name: str, *, whole: bool) -> list[Any]:
    changes = {item.get(name): item for item in override}
    changed = [(item, changes.pop(item.get(name), {})) for item in base]
    kept = [change if whole and change else merged(item, change) for item, change in changed]
    return [*kept, *changes.values()]
