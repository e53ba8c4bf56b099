"""The RayJob of a rebuild: a pure function of what the planner wants begun.

Its cluster is the job's own and ends with it. KubeRay submits by HTTP, so that there is no pod for that, and submits again
when the head was lost: the process then goes on by the ledger.
"""

import json
from collections.abc import Mapping
from typing import Any

from visualindex.planning.reindex_shape import reindex_shape, shunned_by_head
from visualindex.planning.reindexing import BeginReindex
from visualindex.planning.shape import ClusterShape, Group, as_resource
from visualindex.serve_config import job_document
from visualindex_operator import names
from visualindex_operator.children import database_environment, storage_environment
from visualindex_operator.pods import environment, merged, ray_pod
from visualindex_operator.rayservice import start_parameters
from visualindex_operator.settings import Settings

Manifest = dict[str, Any]
SPEC_VARIABLE = "VISUALINDEX_SPEC"
GRACE_S = 120
"""What clouds that give notice at all give: a pod that ends has it to end its chunk."""
_NOTICE = ["python", "-m", "visualindex_jobs.notice", "--within", str(GRACE_S - 20)]


def ray_job(
    namespace: str, cluster: str, action: BeginReindex, owner: Mapping[str, Any], settings: Settings
) -> Manifest:
    """The manifest. Names, and what is counted, are the action's: a repeat makes the same object."""
    shape = reindex_shape(action.spec)
    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": action.run,
            "namespace": namespace,
            "labels": names.labels(cluster, action.index, "reindex"),
            "annotations": counted(action),
        },
        "spec": {
            "entrypoint": entrypoint(action, "own"),
            "jobId": action.run,
            "submissionMode": "HTTPMode",
            "backoffLimit": 0,  # the operator repeats, and counts from the last chunk on
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": action.spec.reindex.cluster.keep_seconds,
            "rayClusterSpec": _cluster(cluster, action, shape, settings),
        },
    }
    return names.owned(manifest, [owner])


def entrypoint(action: BeginReindex, place: str) -> str:
    """The command that carries the job out."""
    return f"python -m visualindex_jobs reindex --job {action.job} --place {place}"


def counted(action: BeginReindex) -> dict[str, str]:
    """What a run remembers of its job."""
    return {
        names.JOB: action.job,
        names.NUMBER: str(action.number),
        names.ATTEMPT: str(action.attempt),
        names.CHUNKS: str(action.chunks),
    }


def job_spec(action: BeginReindex) -> str:
    """The index as the job's process reads it."""
    return json.dumps(job_document(as_resource(action.index, action.spec)), sort_keys=True)


def _cluster(cluster: str, action: BeginReindex, shape: ClusterShape, settings: Settings) -> Manifest:
    spec, pull_policy = action.spec, shape.ray.image_pull_policy or settings.image_pull_policy
    access = [*database_environment(spec), *storage_environment(spec)]

    def template(group: Group, *more: Manifest) -> Manifest:
        return _with_notice(
            merged(ray_pod(cluster, shape, group, pull_policy), _environment([*access, *more]))
        )

    head = template(shape.head, *environment({SPEC_VARIABLE: job_spec(action)}))
    return {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {**start_parameters(shape.head), "dashboard-host": "0.0.0.0"},  # noqa: S104 - behind a token
            "template": kept_off(head, shunned_by_head(spec)),
        },
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.replicas,
                "minReplicas": group.replicas,
                "maxReplicas": group.replicas,
                "rayStartParams": start_parameters(group),
                "template": template(group),
            }
            for group in shape.groups
        ],
    }


def _environment(variables: list[Manifest]) -> Manifest:
    return {"spec": {"containers": [{"name": "ray", "env": variables}]}}


def _with_notice(template: Manifest) -> Manifest:
    """A pod that is to end tells the processes of the job in it, and waits for their chunk."""
    hook = {"lifecycle": {"preStop": {"exec": {"command": _NOTICE}}}}
    ending = {"terminationGracePeriodSeconds": GRACE_S, "containers": [{"name": "ray", **hook}]}
    found: Manifest = merged(template, {"spec": ending})
    return found


def kept_off(template: Manifest, labels: Mapping[str, str]) -> Manifest:
    """The pod on no node with any of these labels, whatever else its template says: every choice it leaves is narrowed."""
    shunned = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in sorted(labels.items())]
    affinity = template["spec"].get("affinity") or {}
    nodes = affinity.get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *shunned]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    narrowed = {
        **nodes,
        "requiredDuringSchedulingIgnoredDuringExecution": {**required, "nodeSelectorTerms": terms},
    }
    return {**template, "spec": {**template["spec"], "affinity": {**affinity, "nodeAffinity": narrowed}}}
