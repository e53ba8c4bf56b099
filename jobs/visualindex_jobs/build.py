"""The job that builds a generation of an index, and lets the shards load it when it is good enough."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

from visualindex.building import Built, Kept, build_generation
from visualindex.catalog import Catalog, JobRecord
from visualindex.gate import judge
from visualindex.generations import NodeCache
from visualindex.spec import VisualIndex
from visualindex_jobs.build_places import Place, builders_of, threads_of
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.letting_in import Candidates
from visualindex_jobs.opening import opened


def main(document: dict[str, Any], job: JobRecord, features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first.

    `features` is the fingerprint of the patches that the index keeps, if it keeps any.
    """
    os.nice(10)
    asyncio.run(run(VisualIndex.model_validate(document), job, features, "beside"))


async def run(resource: VisualIndex, job: JobRecord, features: str | None, place: Place = "here") -> None:
    """Carry a claimed job out with what this process's environment gives."""
    async with opened(resource, "build", connections=3) as found:
        what = found.catalog, found.store, resource, job, found.scratch(job.job_id), found.generations
        await carry_out(*what, patches=found.kept(features), place=place)


async def carry_out(
    catalog: Catalog,
    store: Any,
    resource: VisualIndex,
    job: JobRecord,
    scratch: Path,
    cache: NodeCache,
    *,
    patches: Kept | None = None,
    place: Place = "here",
) -> None:
    """Build, judge, and note the end of the job, whatever it is."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        candidates = Candidates(catalog, resource, job, lease)
        of = catalog, store, resource, scratch
        held: dict[str, Any] = {"say": lease.say, "wanted": lease.held, "fence": job.fence}
        builders = builders_of(place, None if patches is None else patches.features, lease.held)
        building = partial(
            build_generation, *of, **held, patches=patches, threads=threads_of(place), builders=builders
        )
        built = await candidates.built(building)
        let_in = await candidates.let_in(built, partial(judge, catalog, store, cache, resource, **held))
        await lease.stop()
        await catalog.end_job(job.fence, result={**_result(built), **let_in})


def _result(built: Built) -> dict[str, Any]:
    return {
        "generation": built.generation,
        "images": built.images,
        "recall": built.recall,
        "met": built.met,
    }
