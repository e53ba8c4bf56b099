"""The job that takes in the pictures of buckets, folders, manifests and archives."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from visualindex import credentials
from visualindex.api.ingesting import IngestRequest
from visualindex.catalog import Catalog, JobRecord, LacksVectorError
from visualindex.encoders import EncoderConfigError
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
from visualindex.spec.served_encoder import with_settings
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
        what = catalog, store, resource, job, cache_dir, access
        result = await _with_every_encoder(*what, lease, request)
        await lease.stop()
        if await catalog.end_job(job.fence, result=result):
            # Not before: without it all would be read again.
            await Ledger(store, resource.name, job.job_id).forget()


async def _with_every_encoder(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    job: JobRecord,
    cache_dir: Path,
    access: credentials.Credentials,
    lease: Lease,
    request: IngestRequest,
) -> dict[str, Any]:
    """Take everything in; again from where it stopped, when the index is given another encoder meanwhile."""
    for last in (False, False, True):
        encodings = await _open_all(catalog, resource, cache_dir, access)
        try:
            return await _taken_in(
                catalog, store, resource, job, cache_dir, access, encodings, lease, request
            )
        except LacksVectorError:
            if last:
                raise
        finally:
            for encoding in encodings:
                encoding.encoder.close()
    raise AssertionError("the last round returns or raises")


async def _taken_in(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    job: JobRecord,
    cache_dir: Path,
    access: credentials.Credentials,
    encodings: Sequence[Encoding],
    lease: Lease,
    request: IngestRequest,
) -> dict[str, Any]:
    await _check_encoder(catalog, resource, encodings)
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
            preparing=Preparing(catalog, store, resource, pool, [one.made for one in encodings]),
            encodings=encodings,
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


async def _open_all(
    catalog: Catalog, resource: VisualIndex, cache_dir: Path, access: credentials.Credentials
) -> list[Encoding]:
    """The encoders that the index is served with; that of the spec where the index has not said so yet."""
    opened = []
    for one in await catalog.index_encoders(resource.name):
        if one.state != "leaving":
            try:
                wanted = with_settings(resource, one.settings)
                opened.append(await asyncio.to_thread(partial(_open, wanted, cache_dir, access)))
            except EncoderConfigError:
                if one.state == "required":
                    raise
    return opened or [await asyncio.to_thread(partial(_open, resource, cache_dir, access))]


async def _check_encoder(catalog: Catalog, resource: VisualIndex, encodings: Sequence[Encoding]) -> None:
    """Vectors of other encoders than the index's would be found by nobody."""
    record = await catalog.get_index(resource.name)
    if record is None or record.fingerprint not in {one.encoder.fingerprint for one in encodings}:
        detail = f"index {resource.name} has not taken up the encoder of its spec yet: start the batch again when it has"
        raise ProblemError(ProblemType.CONFLICT, detail)


def _threads() -> int:
    return max(1, len(os.sched_getaffinity(0)) // _SHARE)
