"""Rebuilds as jobs that are submitted to the Ray cluster that serves the index, and that somebody else runs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

from visualindex.credentials import Credentials
from visualindex.planning.observations import ReindexRun
from visualindex.planning.reindexing import BeginReindex
from visualindex.spec import Spec
from visualindex_operator import names
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.live import Live, Object
from visualindex_operator.rayjob import GRACE_S, SPEC_VARIABLE, counted, entrypoint, job_spec
from visualindex_operator.reindex_runs import RunRefused, count, of_job
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_clients import ServeClients, access
from visualindex_operator.serve_merge import OWNER
from visualindex_operator.serve_problems import ClusterRefused, ClusterUnreachable
from visualindex_operator.submitted_jobs import SubmittedJob
from visualindex_operator.submitting import submitted_once

_GRACE = {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}
"""Without it Ray leaves a job that is stopped three seconds to end its chunk."""
_FIRST_LINE, _LOG_END = 100, 260
_STATES: dict[str, Literal["starting", "running", "ended"]] = {"PENDING": "starting", "RUNNING": "running"}


class SubmittedRuns:
    """`ReindexRuns` by the job API of an existing cluster."""

    def __init__(self, checks: DependencyChecks, clients: ServeClients) -> None:
        self._checks, self._clients = checks, clients

    async def of(self, namespace: str, index: str, spec: Spec, live: Live) -> Sequence[ReindexRun]:
        """See `ReindexRuns`."""
        async with self._told(namespace, index, spec) as api:
            jobs = await api.jobs()
        owner = f"{namespace}/{index}"
        return [run_of(job) for job in jobs if (job.metadata or {}).get(OWNER) == owner]

    async def begin(
        self,
        namespace: str,
        cluster: str,
        action: BeginReindex,
        body: Object,
        credentials: Credentials | None,
    ) -> list[str]:
        """See `ReindexRuns`. It runs beside the service's replicas, with what they leave."""
        if credentials is None:
            return []
        variables = {**credentials.environment(), **_GRACE, SPEC_VARIABLE: job_spec(action)}
        job = {
            "submission_id": action.run,
            "entrypoint": entrypoint(action, "beside"),
            "runtime_env": {"env_vars": variables},
            "metadata": {**counted(action), OWNER: f"{namespace}/{action.index}"},
        }
        async with self._told(namespace, action.index, action.spec) as api:
            begun = await submitted_once(api, job)
        return [f"submitted job {action.run}"] if begun else []

    async def end(self, namespace: str, index: str, spec: Spec, run: ReindexRun) -> list[str]:
        """See `ReindexRuns`."""
        async with self._told(namespace, index, spec) as api:
            if run.state == "ended":
                await api.forget_job(run.name)
                return []
            await api.stop_job(run.name)
        return [f"stopped job {run.name}"]

    @asynccontextmanager
    async def _told(self, namespace: str, index: str, spec: Spec) -> AsyncIterator[ServeAPI]:
        """The cluster. Raises RunRefused where it refuses something, or does not answer."""
        try:
            async with self._cluster(namespace, index, spec) as api:
                yield api
        except (ClusterUnreachable, ClusterRefused) as problem:
            raise RunRefused(str(problem)) from problem

    @asynccontextmanager
    async def _cluster(self, namespace: str, index: str, spec: Spec) -> AsyncIterator[ServeAPI]:
        external = spec.ray.external
        if external is None:
            raise ClusterRefused("spec.ray.external is missing: state address and serveUrl")
        way = await access(self._checks, namespace, external)
        async with self._clients.of([(namespace, index)], way) as api:
            yield api


def run_of(job: SubmittedJob) -> ReindexRun:
    """What the cluster says of a job."""
    found = job.metadata or {}
    state = _STATES.get(job.status, "ended")
    return ReindexRun(
        name=str(job.submission_id),
        job=of_job(found),
        number=count(found, names.NUMBER),
        attempt=count(found, names.ATTEMPT),
        chunks=count(found, names.CHUNKS),
        state=state,
        stage=job.status,
        problem=_problem(job.message or "") if job.status == "FAILED" else "",
        created=_moment(job.start_time),
        ended=_moment(job.end_time or job.start_time) if state == "ended" else None,
    )


def _problem(message: str) -> str:
    """What Ray says of a job that failed: its first line, and the end of the log that follows, where the cause stands."""
    first, _, log = message.strip().partition("\n")
    return " ".join(f"{first[:_FIRST_LINE]} {log[-_LOG_END:]}".split())


def _moment(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)
