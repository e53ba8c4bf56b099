"""Rebuilds as RayJobs."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

from visualindex.credentials import Credentials
from visualindex.planning.observations import ReindexRun
from visualindex.planning.reindexing import BeginReindex
from visualindex.spec import Spec
from visualindex_operator import names, telemetry
from visualindex_operator.kube import Kube, KubeError
from visualindex_operator.live import Live, Object
from visualindex_operator.rayjob import ray_job
from visualindex_operator.reindex_runs import count, moment, of_job
from visualindex_operator.settings import Settings

_ENDED = ("Complete", "Failed", "ValidationFailed")
_KIND = "RayJob"


class KubeRayRuns:
    """`ReindexRuns` on KubeRay."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube, self._settings = kube, settings

    async def of(self, namespace: str, index: str, spec: Spec, live: Live) -> Sequence[ReindexRun]:
        """See `ReindexRuns`."""
        return [run_of(body) for body in live.ray_jobs_of(namespace, index)]

    async def begin(
        self,
        namespace: str,
        cluster: str,
        action: BeginReindex,
        body: Object,
        credentials: Credentials | None,
    ) -> list[str]:
        """See `ReindexRuns`. The pods have the credentials from the Secrets that the spec names."""
        manifest = ray_job(namespace, cluster, action, body, self._settings)
        if await self._kube.create(manifest):
            telemetry.WRITES.labels("create", _KIND).inc()
            return [f"created RayJob {action.run}"]
        present = await self._kube.get(_KIND, namespace, action.run)
        if present is not None and of_job(present["metadata"].get("annotations") or {}) != action.job:
            message = f"RayJob {action.run} is not the operator's: rename or delete it"
            raise KubeError(HTTPStatus.CONFLICT, message)
        return []

    async def end(self, namespace: str, index: str, spec: Spec, run: ReindexRun) -> list[str]:
        """See `ReindexRuns`."""
        await self._kube.delete(_KIND, namespace, run.name)
        telemetry.WRITES.labels("delete", _KIND).inc()
        return [f"deleted RayJob {run.name}"]


def run_of(body: Object) -> ReindexRun:
    """What a RayJob says of itself."""
    metadata, status = body["metadata"], body.get("status") or {}
    counted = metadata.get("annotations") or {}
    stage = str(status.get("jobDeploymentStatus") or "")
    return ReindexRun(
        name=metadata["name"],
        job=of_job(counted),
        number=count(counted, names.NUMBER),
        attempt=count(counted, names.ATTEMPT),
        chunks=count(counted, names.CHUNKS),
        state=_state(metadata, stage, status),
        stage=stage,
        problem=_problem(stage, status),
        created=moment(metadata.get("creationTimestamp")),
        ended=moment(status.get("endTime"))
        or (moment(metadata.get("creationTimestamp")) if stage in _ENDED else None),
    )


def _state(
    metadata: Object, stage: str, status: Object
) -> Literal["starting", "running", "ended", "leaving"]:
    if "deletionTimestamp" in metadata:
        return "leaving"
    if stage in _ENDED:
        return "ended"
    return "running" if stage == "Running" and status.get("jobStatus") == "RUNNING" else "starting"


def _problem(stage: str, status: Any) -> str:
    if stage not in _ENDED or stage == "Complete":
        return ""
    said = " ".join(str(status.get("message") or "").split())
    return ": ".join(part for part in (str(status.get("reason") or ""), said) if part)[:500]
