"""The job that compares database, object store, generations and replicas of an index, tells what differs, and mends it."""

import asyncio
import os
from typing import Any

from visualindex.catalog import Catalog, JobRecord
from visualindex.checking import Report
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_jobs.check_generations import check_generations
from visualindex_jobs.check_originals import check_originals
from visualindex_jobs.check_replicas import check_replicas
from visualindex_jobs.check_vectors import check_vectors
from visualindex_jobs.checked import Checked
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.opening import opened


def main(document: dict[str, Any], job: JobRecord, features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job))


async def _main(resource: VisualIndex, job: JobRecord) -> None:
    async with opened(resource, "check") as found:
        await carry_out(found.catalog, found.store, resource, job)


async def carry_out(catalog: Catalog, store: ObjectStore, resource: VisualIndex, job: JobRecord) -> None:
    """Check, keep the report, and note the end of the job, whatever it is."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        record = await catalog.get_index(resource.name)
        if record is None:
            detail = f"there is no index {resource.name}: create it first"
            raise ProblemError(ProblemType.INDEX_NOT_FOUND, detail)
        report = Report(repair=bool(job.parameters.get("repair")))
        checked = Checked(catalog, store, resource, record.fingerprint, job, lease, report)
        try:
            await check_generations(checked)
            await check_vectors(checked)
            await check_replicas(checked)
            await check_originals(checked)
        finally:
            await catalog.forget_questions(resource.name, job_id=job.job_id)
        await lease.stop()
        await catalog.keep_check(resource.name, report.to_json(), job.fence)
        await catalog.end_job(job.fence, result=report.to_json())
