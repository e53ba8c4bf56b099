"""The job that measures one generation of an index against another, for people to look at; it changes nothing."""

import asyncio
import os
from typing import Any

from visualindex.catalog import Catalog, JobRecord
from visualindex.gate import compare
from visualindex.generations import NodeCache
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.opening import opened


def main(document: dict[str, Any], job: JobRecord, _features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job))


async def _main(resource: VisualIndex, job: JobRecord) -> None:
    async with opened(resource, "compare") as found:
        await carry_out(found.catalog, found.store, resource, job, found.generations)


async def carry_out(
    catalog: Catalog, store: ObjectStore, resource: VisualIndex, job: JobRecord, cache: NodeCache
) -> None:
    """Measure `candidate` against `against`, and note the report as the job's result."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        one, other = [
            await catalog.get_generation(resource.name, job.parameters[side])
            for side in ("candidate", "against")
        ]
        found = await compare(catalog, store, cache, resource, one, other, say=lease.say, wanted=lease.held)
        await lease.stop()
        await catalog.end_job(job.fence, result=found.model_dump(mode="json"))
