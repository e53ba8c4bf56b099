"""Having the job that brings a database to this release's schema."""

from visualindex.planning.plan import Migrate
from visualindex_operator import children, telemetry
from visualindex_operator.homes import Seen
from visualindex_operator.kube import Kube
from visualindex_operator.live import Live, Object
from visualindex_operator.settings import Settings


async def ensure_migration(
    kube: Kube,
    namespace: str,
    cluster: str,
    action: Migrate,
    body: Object,
    seen: Seen,
    live: Live,
    settings: Settings,
) -> list[str]:
    """Apply the job unless it is there; returns what was written. Raises KubeError."""
    inputs = seen.migration_inputs[action.index]
    manifest = children.migrate_job(namespace, cluster, body, action.spec, inputs, settings)
    name = manifest["metadata"]["name"]
    if live.job(namespace, name) is not None:
        return []
    await kube.apply(manifest)
    telemetry.WRITES.labels("apply", "Job").inc()
    return [f"applied Job {name}"]
