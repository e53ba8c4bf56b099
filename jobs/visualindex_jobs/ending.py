"""How a job ends: with what its work says, or with what kept it from its end."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from visualindex.ann.graph import Abandoned
from visualindex.catalog import Catalog, JobRecord
from visualindex.errors import ProblemError
from visualindex_jobs.lease import Lease

logger = logging.getLogger(__name__)


@asynccontextmanager
async def ending(catalog: Catalog, job: JobRecord, lease: Lease) -> AsyncIterator[None]:
    """Holds the lease while the job runs, and notes a failure; what succeeded is noted by the job itself."""
    lease.start()
    try:
        yield
    except Abandoned:
        logger.info("job %s ends: it was cancelled or taken over", job.job_id)
    except ProblemError as problem:
        await lease.stop()
        await catalog.end_job(job.fence, problem=problem.detail)
    except Exception as error:
        await lease.stop()
        await catalog.end_job(job.fence, problem=f"{type(error).__name__}: {error}")
        raise
    finally:
        await lease.stop()
