"""The job that has a candidate answer live searches beside the active generation, for people to look at."""

import asyncio
import os
from typing import Any

from visualindex.catalog import Catalog, JobRecord
from visualindex.spec import ShadowSpec, VisualIndex
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.opening import opened
from visualindex_jobs.shadowing import Shadowing


def main(document: dict[str, Any], job: JobRecord, _features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job))


async def _main(resource: VisualIndex, job: JobRecord) -> None:
    async with opened(resource, "shadow") as found:
        await carry_out(found.catalog, resource, job)


async def carry_out(catalog: Catalog, resource: VisualIndex, job: JobRecord) -> None:
    """Shadow `generation` on the `terms` of the job, and note the report as its result."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        terms = ShadowSpec.model_validate(job.parameters["terms"])
        of = catalog, resource, job.parameters["generation"], terms
        report = await Shadowing(*of, job.fence, lease).run()
        await lease.stop()
        await catalog.end_job(job.fence, result=report.model_dump(mode="json"))
