"""The job that measures one generation of an index against another, for people to look at; it changes nothing."""

import asyncio
import os
from pathlib import Path
from typing import Any

from visualindex import credentials
from visualindex.catalog import Catalog, JobRecord
from visualindex.footprint import generation_cache
from visualindex.gate import compare
from visualindex.generations import NodeCache
from visualindex.objectstore import ObjectStore, open_store
from visualindex.spec import VisualIndex
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease


def main(document: dict[str, Any], job: JobRecord, _features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job))


async def _main(resource: VisualIndex, job: JobRecord) -> None:
    access = await credentials.from_environment()
    state = Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex"))
    catalog = await Catalog.open(access.dsn, max_connections=2, application_name="visualindex-compare")
    store = open_store(resource.spec.storage, default_folder=state / "objects", credentials=access)
    cache = NodeCache(state / "cache" / "generations", generation_cache(resource.spec))
    try:
        await carry_out(catalog, store, resource, job, cache)
    finally:
        await store.close()
        await catalog.close()


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
