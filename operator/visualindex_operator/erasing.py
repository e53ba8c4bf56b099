"""What deleting a resource does to its data: nothing, or a job that deletes it, within a bounded time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import kopf

from visualindex.planning.observations import Member
from visualindex.planning.plan import applied_spec
from visualindex.planning.shape import resolved
from visualindex.spec import Spec
from visualindex_operator import children, telemetry
from visualindex_operator.kube import Kube
from visualindex_operator.live import Live, Object
from visualindex_operator.observing import job_state
from visualindex_operator.reasons import EventReason
from visualindex_operator.settings import Settings

_GRACE = timedelta(seconds=60)
_LOOK_AGAIN_S = 2.0
Tell = Callable[[str, EventReason, str], None]


class Erasure:
    """Deletes the data of a deleted resource, where its policy says so."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube, self._settings = kube, settings

    async def finish(
        self, body: Object, member: Member, cluster: str, live: Live, tell: Tell, refusal: str = ""
    ) -> None:
        """Returns when the resource may go. Raises kopf.TemporaryError while something of it is being ended or deleted.

        `refusal` says why the applications could not be taken off an external cluster.
        """
        spec = member.spec or applied_spec(member.status)
        if spec is None:
            return
        serving = refusal or _serving(body, spec, cluster, live)
        if serving and not _too_late(body, spec):
            raise kopf.TemporaryError(serving, delay=_LOOK_AGAIN_S)
        if serving:
            tell("Warning", EventReason.DATA_LEFT_BEHIND, f"still on the cluster: {serving}")
        if spec.deletion_policy == "Delete" and not serving:
            namespace = body["metadata"]["namespace"]
            await self._erase(namespace, cluster, body, resolved(spec, self._settings.image), live, tell)

    async def _erase(
        self, namespace: str, cluster: str, body: Object, spec: Spec, live: Live, tell: Tell
    ) -> None:
        manifest = children.erase_job(namespace, cluster, body, spec, self._settings)
        name = manifest["metadata"]["name"]
        state, message = job_state(live.job(namespace, name))
        if state == "done":
            tell("Normal", EventReason.DATA_DELETED, "pictures, vectors and rows are deleted")
            return
        if state == "failed" or _too_late(body, spec):
            why = (
                message or f"not done within {spec.deletion_timeout_seconds} s (spec.deletionTimeoutSeconds)"
            )
            index = body["metadata"]["name"]
            remedy = (
                "delete the rest from a pod of this image, with VISUALINDEX_POSTGRES_DSN, VISUALINDEX_S3_ACCESS_KEY and "
                f"VISUALINDEX_S3_SECRET_KEY set: visualindex database erase --index {index} --spec FILE --yes"
            )
            tell("Warning", EventReason.DATA_LEFT_BEHIND, f"{why}; {remedy}")
            return
        if state == "absent":
            await self._kube.apply(manifest)
            telemetry.WRITES.labels("apply", "Job").inc()
        raise kopf.TemporaryError(f"job {name} deletes the data", delay=_LOOK_AGAIN_S)


def _serving(body: Object, spec: Spec, cluster: str, live: Live) -> str:
    """What still serves the index, where its data is to be deleted: nothing may write any more then."""
    namespace, index = body["metadata"]["namespace"], body["metadata"]["name"]
    if spec.ray.mode != "KubeRay" or spec.deletion_policy == "Retain":
        return ""
    for run in live.ray_jobs_of(namespace, index):
        return f"RayJob {run['metadata']['name']} has not ended yet"
    service = live.ray_service(namespace, cluster)
    if service is None:
        return ""
    owners = service["metadata"].get("ownerReferences") or []
    served = any(owner.get("name") == body["metadata"]["name"] for owner in owners)
    return f"RayService {cluster} has not ended yet" if served else ""


def _too_late(body: Object, spec: Spec) -> bool:
    asked = datetime.fromisoformat(body["metadata"]["deletionTimestamp"])
    return datetime.now(UTC) - asked > timedelta(seconds=spec.deletion_timeout_seconds) + _GRACE
