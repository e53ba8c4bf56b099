"""Runs the jobs of the indexes: any gateway claims what is due and has Ray find it a place.

A job lives with the gateway that claimed it. When that dies the job's lease ends, and another gateway takes it up. One
that is cancelled ends by itself within seconds; its process is killed where it does not, so that it keeps no other waiting.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import ray

from visualindex.catalog import (
    BUILD,
    CHECK,
    COMPARE,
    INGEST,
    LEASE_S,
    REINDEX,
    RERANK_TRIAL,
    SHADOW,
    Catalog,
    JobRecord,
)
from visualindex.errors import ProblemError
from visualindex.footprint import SHARD_CPUS
from visualindex_serving.ending import ended
from visualindex_serving.holding_jobs import while_held
from visualindex_serving.index_service import IndexService

logger = logging.getLogger(__name__)

RunJob = Callable[[IndexService, JobRecord], Coroutine[Any, Any, None]]
"""Carries a claimed job out and returns when it has ended. Cancelled, it ends the job's process by force."""

_MAIN = {
    BUILD: "visualindex_jobs.build",
    INGEST: "visualindex_jobs.ingest",
    CHECK: "visualindex_jobs.check",
    COMPARE: "visualindex_jobs.compare",
    REINDEX: "visualindex_jobs.reindex",
    RERANK_TRIAL: "visualindex_jobs.rerank_trial",
    SHADOW: "visualindex_jobs.shadow",
}
"""The module whose `main` carries a job of a kind out, by import path: serving does not need what jobs need."""
_LOOK_S = 1.0
_AT_ONCE = 3
"""Jobs of a gateway that run at a time: one that takes days must not keep the others waiting."""
_PATIENCE_S = 30.0
"""Seconds that the process of a job that was cancelled, paused or taken over has to end by itself."""


class BackgroundJobs:
    """A background task, and one for each job that runs for this gateway."""

    def __init__(
        self,
        catalog: Catalog,
        indexes: list[IndexService],
        run: RunJob,
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._patience_s = patience_s
        self._catalog = catalog
        self._indexes = indexes
        self._run_job = run
        self._task: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="background-jobs")

    async def close(self) -> None:
        """Stop; what runs ends with this process and is taken up by another gateway."""
        if self._task is not None:
            await ended([self._task, *self._running])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            for index in self._indexes:
                if len(self._running) < _AT_ONCE:
                    await self._look(index)

    async def _look(self, index: IndexService) -> None:
        try:
            # A gateway of the spec before would rebuild with the encoder of before.
            leaves = REINDEX if index.encoders.outdated else ""
            job = await self._catalog.claim_job(index.name, LEASE_S, leaves=leaves)
        except ProblemError as problem:
            logger.warning("jobs of index %s cannot be looked for: %s", index.name, problem.detail)
            return
        if job is not None:
            task = asyncio.create_task(self._carry(index, job), name=f"job-{job.job_id}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _carry(self, index: IndexService, job: JobRecord) -> None:
        try:
            if job.kind in _MAIN:
                await while_held(self._catalog, job, self._run_job(index, job), self._patience_s)
            else:
                problem = f"this release knows no job of kind {job.kind}"
                await self._catalog.end_job(job.fence, problem=problem)
        except ProblemError as problem:
            logger.warning("job %s of index %s ended early: %s", job.job_id, index.name, problem.detail)
        except Exception:
            logger.exception("a job of index %s failed; its record says why", index.name)


async def run_in_ray(index: IndexService, job: JobRecord) -> None:
    """Carry the job out in a Ray task, on any node with room for it."""
    document = index.resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    task: Any = ray.remote(num_cpus=SHARD_CPUS, num_gpus=_gpus(index, job), max_retries=0)(_carry_out)
    named = task.options(name=f"{job.kind} {index.name}")
    await or_killed(named.remote(_MAIN[job.kind], document, job, features_of(index, job)))


async def or_killed(running: Any) -> None:
    """Wait for a Ray task; when that is cancelled its process is killed: one that hangs would hear of nothing else."""
    try:
        await running
    except asyncio.CancelledError:
        ray.cancel(running, force=True)
        raise


def features_of(index: IndexService, job: JobRecord) -> str | None:
    """The patches that a job works with: a rebuild those of the spec's encoder, others those that searches use."""
    encoder = index.encoders.own if job.kind == REINDEX else index.encoder
    return encoder.reranking.features


def _gpus(index: IndexService, job: JobRecord) -> float:
    """Some jobs encode, with the model that the index has and so where that runs."""
    return index.resource.spec.encoder.num_gpus if job.kind in (RERANK_TRIAL, INGEST) else 0.0


def _carry_out(module: str, document: dict[str, Any], job: JobRecord, features: str | None) -> None:
    importlib.import_module(module).main(document, job, features)
