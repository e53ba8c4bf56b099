"""The hold of a gateway on a job that it runs: when the job is no longer its own, the work has a bounded time to end."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from visualindex.catalog import Catalog, JobRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.ending import ended

logger = logging.getLogger(__name__)

_LOOK_S = 2.0


async def while_held(
    catalog: Catalog, job: JobRecord, work: Coroutine[Any, Any, None], patience_s: float
) -> None:
    """Wait for the work of a claimed job, and cancel it when it goes on `patience_s` seconds after the job is another's.

    Raises what `work` raises.
    """
    running = asyncio.create_task(work)
    lost: float | None = None
    try:
        while not (await asyncio.wait([running], timeout=min(_LOOK_S, patience_s)))[0]:
            if await _is_held(catalog, job):
                continue
            lost = time.monotonic() if lost is None else lost
            if time.monotonic() - lost >= patience_s:
                about = (job.kind, job.job_id, job.index, patience_s)
                logger.warning("%s job %s of index %s did not end within %.0f s: it is killed", *about)
                return
        running.result()
    finally:
        await ended([running])


async def _is_held(catalog: Catalog, job: JobRecord) -> bool:
    """Whether the job is still its holder's; while the catalog cannot be asked it is taken to be."""
    try:
        now = await catalog.get_job(job.index, job.job_id)
    except ProblemError as problem:
        return problem.type is not ProblemType.NOT_FOUND
    return now.state == "running" and now.fence == job.fence
