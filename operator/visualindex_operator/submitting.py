"""Submitting a job of which there is to be one, to a cluster whose answers may be lost or come too early.

A dashboard answers before the agent that begins jobs does: it is asked again for a moment. Whether a submission failed, or
only its answer, is seen in the list of jobs.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from visualindex_operator import names
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_merge import OWNER
from visualindex_operator.serve_problems import ClusterFailed, ClusterRefused, ClusterUnreachable
from visualindex_operator.submitted_jobs import SubmittedJob

_TIMES, _FIRST_WAIT_S, _LONGEST_WAIT_S = 4, 1.0, 8.0


async def submitted_once(api: ServeAPI, job: Mapping[str, Any]) -> bool:
    """Submit a job unless it is there already; whether it was not. Raises ClusterUnreachable and ClusterRefused."""
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(ClusterFailed),
        stop=stop_after_attempt(_TIMES),
        wait=wait_random_exponential(_FIRST_WAIT_S, _LONGEST_WAIT_S),
        reraise=True,
    )
    begun: bool = await attempts(_submitted, api, job)
    return begun


async def _submitted(api: ServeAPI, job: Mapping[str, Any]) -> bool:
    try:
        await api.submit(job)
    except (ClusterUnreachable, ClusterRefused) as problem:
        present = await _present(api, job["submission_id"])
        if present is None:
            raise
        if not _is_same(present, job["metadata"]):
            raise ClusterRefused(
                f"The Ray cluster {api.address} has a job {present.submission_id} that is not this operator's: delete it "
                "there."
            ) from problem
        return False
    return True


def _is_same(present: SubmittedJob, asked: Mapping[str, str]) -> bool:
    found = present.metadata or {}
    return all(found.get(key) == asked[key] for key in (OWNER, names.JOB))


async def _present(api: ServeAPI, submission: str) -> SubmittedJob | None:
    with suppress(ClusterUnreachable, ClusterRefused):  # what went wrong first is what is told
        return next((one for one in await api.jobs() if one.submission_id == submission), None)
    return None
