"""When a bucket whose events are taken in is looked through for what no event told of."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from visualindex.api.ingesting import IngestRequest, IngestSource
from visualindex.catalog import INGEST, Catalog, JobRecord
from visualindex.ingesting.places import find_bucket
from visualindex.spec import VisualIndex
from visualindex.spec.models import IngestEventsSpec


def sweep_of(resource: VisualIndex, events: IngestEventsSpec) -> dict[str, Any]:
    """The parameters of the job that makes an index agree with the prefix it has events of."""
    name = find_bucket(resource.spec, events.bucket).name
    source = IngestSource(location=f"s3://{name}/{events.prefix}", format="objects", remove_missing=True)
    return IngestRequest(sources=[source]).model_dump(mode="json", exclude={"index"})


def due(sweep: dict[str, Any], minutes: int, jobs: Sequence[JobRecord], now: dt.datetime) -> bool:
    """Whether it is time for a sweep: none is open, and the last was asked for so long ago. `jobs` are the latest of all."""
    ingests = [job for job in jobs if job.kind == INGEST]
    if any(job.state in ("queued", "running") for job in ingests):
        return False
    asked = [job.requested_at for job in ingests if dict(job.parameters) == sweep]
    return not asked or now - max(asked) >= dt.timedelta(minutes=minutes)


async def sweep_if_due(catalog: Catalog, resource: VisualIndex) -> None:
    """Ask for a sweep when it is time, unless one waits for people: paused, it goes on when they want it to."""
    events = resource.spec.ingest.events
    if events is None or events.sweep_minutes == 0:
        return
    sweep = sweep_of(resource, events)
    jobs = await catalog.list_jobs(resource.name, limit=200)
    paused = any(job.state == "paused" and dict(job.parameters) == sweep for job in jobs)
    if not paused and due(sweep, events.sweep_minutes, jobs, dt.datetime.now(dt.UTC)):
        await catalog.request_job(resource.name, INGEST, sweep)
