"""The job that builds a generation of an index, and lets the shards load it when it is good enough."""

import asyncio
import os
from pathlib import Path
from typing import Any

from visualindex import credentials
from visualindex.api.gate import GateReport
from visualindex.building import Built, Kept, build_generation
from visualindex.catalog import Catalog, JobRecord
from visualindex.footprint import generation_cache
from visualindex.gate import judge
from visualindex.generations import NodeCache
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease


def main(document: dict[str, Any], job: JobRecord, features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first.

    `features` is the fingerprint of the patches that the index keeps, if it keeps any.
    """
    os.nice(10)
    asyncio.run(run(VisualIndex.model_validate(document), job, features))


async def run(resource: VisualIndex, job: JobRecord, features: str | None) -> None:
    """Carry a claimed job out with what this process's environment gives."""
    access = await credentials.from_environment()
    state = Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex"))
    catalog = await Catalog.open(access.dsn, max_connections=2, application_name="visualindex-build")
    store = open_store(resource.spec.storage, default_folder=state / "objects", credentials=access)
    cache = NodeCache(state / "cache" / "generations", generation_cache(resource.spec))
    kept = None if features is None else Kept(features, cache)
    try:
        scratch = state / "cache" / "building" / str(job.job_id)
        await carry_out(catalog, store, resource, job, scratch, cache, patches=kept)
    finally:
        await store.close()
        await catalog.close()


async def carry_out(
    catalog: Catalog,
    store: Any,
    resource: VisualIndex,
    job: JobRecord,
    scratch: Path,
    cache: NodeCache,
    *,
    patches: Kept | None = None,
) -> None:
    """Build, judge, and note the end of the job, whatever it is."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        built = await build_generation(
            catalog,
            store,
            resource,
            scratch,
            say=lease.say,
            wanted=lease.held,
            fence=job.fence,
            patches=patches,
        )
        name = built.generation
        judged = await judge(
            catalog, store, cache, resource, name, say=lease.say, wanted=lease.held, fence=job.fence
        )
        refused = judged is not None and judged.verdict == "refused"
        activating = bool(job.parameters.get("activate")) and built.met and not refused
        if activating:
            await catalog.prepare_generation(resource.name, built.generation)
        await lease.stop()
        await catalog.end_job(job.fence, result={**_result(built, judged), "activating": activating})


def _result(built: Built, judged: GateReport | None) -> dict[str, Any]:
    gate = {} if judged is None else {"gate": judged.verdict}
    return {
        "generation": built.generation,
        "images": built.images,
        "recall": built.recall,
        "met": built.met,
        **gate,
    }
