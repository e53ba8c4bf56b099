"""The job that takes in the pictures of buckets, folders, manifests and archives."""

import asyncio
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from visualindex import credentials
from visualindex.api.ingesting import IngestRequest
from visualindex.catalog import Catalog, JobRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching import SafeFetcher
from visualindex.imaging import DecodePool
from visualindex.ingesting.batches import Batches
from visualindex.ingesting.encoding import Encoding
from visualindex.ingesting.ledger import Ledger
from visualindex.ingesting.places import Places
from visualindex.ingesting.preparing import Preparing
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex
from visualindex_jobs.encoder_tools import EncoderTools
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.opening import opened

_SHARE = 2  # of the cores, one in so many: what serves searches has the others


def main(document: dict[str, Any], job: JobRecord, features: str | None = None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job))


async def _main(resource: VisualIndex, job: JobRecord) -> None:
    async with opened(resource, "ingest") as found:
        await carry_out(found.catalog, found.store, resource, job, found.cache_dir, access=found.access)


async def carry_out(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    job: JobRecord,
    cache_dir: Path,
    *,
    access: credentials.Credentials,
) -> None:
    """Take everything in, and note the end of the job, whatever it is."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        request = IngestRequest.model_validate(dict(job.parameters))
        encoding = await asyncio.to_thread(partial(_open, resource, cache_dir, access))
        try:
            result = await _taken_in(
                catalog, store, resource, job, cache_dir, access, encoding, lease, request
            )
        finally:
            encoding.encoder.close()
        await lease.stop()
        await catalog.end_job(job.fence, result=result)


async def _taken_in(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    job: JobRecord,
    cache_dir: Path,
    access: credentials.Credentials,
    encoding: Encoding,
    lease: Lease,
    request: IngestRequest,
) -> dict[str, Any]:
    await _check_encoder(catalog, resource, encoding)
    spec = resource.spec
    scratch = cache_dir / "ingesting" / str(job.job_id)
    pool = DecodePool(_threads(), spec.limits)
    places = Places(spec, access)
    fetcher = SafeFetcher(spec.fetch, spec.limits)
    try:
        await pool.start()
        return await Batches(
            catalog=catalog,
            resource=resource,
            fence=job.fence,
            places=places,
            fetcher=fetcher,
            preparing=Preparing(catalog, store, resource, pool, encoding.made),
            encoding=encoding,
            ledger=Ledger(store, resource.name, job.job_id),
            scratch=scratch,
            say=lease.say,
            wanted=lease.check,
        ).run(request)
    finally:
        await pool.close()
        await places.close()
        await fetcher.close()
        await asyncio.to_thread(partial(shutil.rmtree, scratch, ignore_errors=True))


def _open(resource: VisualIndex, cache_dir: Path, access: credentials.Credentials) -> Encoding:
    tools = EncoderTools.open(resource, cache_dir, access, threads=_threads())
    return Encoding(tools.encoder, tools.packing, resource.spec.encoder.max_batch_size)


async def _check_encoder(catalog: Catalog, resource: VisualIndex, encoding: Encoding) -> None:
    """Vectors of another encoder than the index's would be found by nobody."""
    record = await catalog.get_index(resource.name)
    if record is None or record.fingerprint != encoding.encoder.fingerprint:
        detail = f"index {resource.name} has not taken up the encoder of its spec yet: start the batch again when it has"
        raise ProblemError(ProblemType.CONFLICT, detail)


def _threads() -> int:
    return max(1, len(os.sched_getaffinity(0)) // _SHARE)
