"""What stands around a cluster of ours: secrets, network policies, disruption budgets, jobs that prepare and erase."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.credentials import ACCESS_KEY_VARIABLE, DSN_VARIABLE, SECRET_KEY_VARIABLE
from visualindex.spec import Spec
from visualindex_operator import names
from visualindex_operator.pods import placement, pod_security, restricted
from visualindex_operator.settings import Settings

Manifest = dict[str, Any]
_MIGRATION_DEADLINE_S = 600
_JOB_ATTEMPTS = 3


def credentials(
    namespace: str,
    cluster: str,
    owners: Sequence[Mapping[str, Any]],
    entries: Mapping[str, str],
    added_at: str | None,
) -> Manifest:
    """The Secret that pods mount: the secrets of all indexes of a cluster, as base64 texts by file name.

    `added_at` is when an entry last came that was not there before, where that is known.
    """
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(namespace, names.credentials_secret(cluster), cluster),
        "type": "Opaque",
        "data": dict(sorted(entries.items())),
    }
    sealed = names.owned(manifest, owners)
    if added_at is not None:
        sealed["metadata"]["annotations"][names.ADDED_AT] = added_at
    return sealed


def new_api_keys(namespace: str, cluster: str, owner: Mapping[str, Any]) -> Manifest:
    """A Secret with a fresh key of all scopes, for an index whose spec names no keys."""
    index = owner["metadata"]["name"]
    metadata = _metadata(namespace, names.api_keys_secret(index), cluster, index)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, "ownerReferences": [names.owner(owner)]},
        "type": "Opaque",
        "stringData": {"admin": f"vi_{secrets.token_urlsafe(32)}"},
    }


def network_policy(namespace: str, cluster: str, owners: Sequence[Mapping[str, Any]]) -> Manifest:
    """Who reaches the pods: each other on any port, everybody the HTTP API, namespaced operators the dashboard."""
    own = {"podSelector": {"matchLabels": {names.CLUSTER_LABEL: cluster}}}
    operators = [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {names.NAME_LABEL: name}}}
        for name in ("kuberay-operator", "visualindex-operator")
    ]
    dashboard = [names.DASHBOARD_PORT, names.SERVE_PORT, 52365]
    return names.owned(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(namespace, f"{cluster}-ray", cluster),
            "spec": {
                "podSelector": {"matchLabels": {names.CLUSTER_LABEL: cluster}},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"from": [own]},
                    {"ports": _tcp(names.SERVE_PORT, names.METRICS_PORT)},
                    {"from": operators, "ports": _tcp(*dashboard)},
                ],
            },
        },
        owners,
    )


def disruption_budget(
    namespace: str, cluster: str, owners: Sequence[Mapping[str, Any]], part: str, pods: int
) -> Manifest:
    """At most one pod of a group away at a time by choice: a drain goes on, also where there is one pod only.

    An absolute number of pods that stay: the owner of the pods, a RayCluster, does not say how many there should be.
    """
    return names.owned(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(namespace, f"{cluster}-{part}", cluster),
            "spec": {
                "minAvailable": max(0, pods - 1),
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {names.CLUSTER_LABEL: cluster, names.PART_LABEL: part}},
            },
        },
        owners,
    )


def migrate_job(
    namespace: str, cluster: str, owner: Mapping[str, Any], spec: Spec, inputs: Any, settings: Settings
) -> Manifest:
    """The job that brings the database to this release's schema and registers the index's API keys."""
    index = owner["metadata"]["name"]
    keys = spec.access.keys_secret_ref or names.api_keys_secret(index)
    command = (
        "visualindex database migrate --wait 60 && "
        f"visualindex database keys --index {index} --from {names.KEYS_FOLDER}"
    )
    volume = {"name": "keys", "secret": {"secretName": keys}}
    mount = {"name": "keys", "mountPath": names.KEYS_FOLDER, "readOnly": True}
    return _job(
        _metadata(namespace, names.job(index, "migrate", inputs), cluster, index, "migrate"),
        owner,
        spec,
        ["sh", "-c", command],
        database_environment(spec),
        settings,
        _MIGRATION_DEADLINE_S,
        (volume, mount),
    )


def erase_job(
    namespace: str, cluster: str, owner: Mapping[str, Any], spec: Spec, settings: Settings
) -> Manifest:
    """The job that deletes an index's pictures and rows, within the time that its spec allows."""
    index = owner["metadata"]["name"]
    storage = json.dumps(spec.storage.model_dump(mode="json", by_alias=True, exclude_none=True))
    command = ["visualindex", "database", "erase", "--index", index, "--yes", "--force"]
    command += ["--storage-json", storage, "--within", str(spec.deletion_timeout_seconds)]
    environment = [*database_environment(spec), *storage_environment(spec)]
    inputs = owner["metadata"]["uid"]
    metadata = _metadata(namespace, names.job(index, "erase", inputs), cluster, index, "erase")
    return _job(metadata, owner, spec, command, environment, settings, spec.deletion_timeout_seconds + 60)


def _job(
    metadata: Manifest,
    owner: Mapping[str, Any],
    spec: Spec,
    command: Sequence[str],
    environment: Sequence[Manifest],
    settings: Settings,
    deadline_s: int,
    volume: tuple[Manifest, Manifest] | None = None,
) -> Manifest:
    ray = spec.ray
    container = {
        "name": "visualindex",
        **restricted(str(ray.image or settings.image), ray.image_pull_policy or settings.image_pull_policy),
        "command": list(command),
        "env": list(environment),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *([volume[1]] if volume else [])],  # noqa: S108
    }
    pod = {
        "restartPolicy": "Never",
        **placement(ray.head),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *([volume[0]] if volume else [])],
        **(
            {"imagePullSecrets": [{"name": n} for n in ray.image_pull_secrets]}
            if ray.image_pull_secrets
            else {}
        ),
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": _JOB_ATTEMPTS,
            "activeDeadlineSeconds": deadline_s,
            "template": {"metadata": {"labels": metadata["labels"]}, "spec": pod},
        },
    }
    return names.owned(manifest, [owner])


def database_environment(spec: Spec) -> list[Manifest]:
    """The variable with an index's connection string, from its Secret."""
    reference = spec.postgres.dsn_secret_ref
    if reference is None:
        return [{"name": DSN_VARIABLE, "value": spec.postgres.dsn or ""}]
    return [_from_secret(DSN_VARIABLE, reference.name, reference.key)]


def storage_environment(spec: Spec) -> list[Manifest]:
    """The variables with the keys of an index's bucket, from their Secret."""
    s3 = spec.storage.s3
    if s3 is None or s3.credentials_secret_ref is None:
        return []
    return [
        _from_secret(ACCESS_KEY_VARIABLE, s3.credentials_secret_ref, "accessKey"),
        _from_secret(SECRET_KEY_VARIABLE, s3.credentials_secret_ref, "secretKey"),
    ]


def _from_secret(variable: str, name: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _tcp(*ports: int) -> list[Manifest]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _metadata(
    namespace: str, name: str, cluster: str, index: str | None = None, part: str | None = None
) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": names.labels(cluster, index, part)}
