"""What keeps the catalog tidy: every gateway trims logs, erases objects and forgets old rows."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from visualindex.building import retire_abandoned
from visualindex.catalog import Catalog, EncoderRecord, GenerationRecord
from visualindex.errors import ProblemError
from visualindex.generations import retire
from visualindex.objectstore import ObjectStore, erase_prefix, job_prefix
from visualindex_serving.activation import advance
from visualindex_serving.ending import ended
from visualindex_serving.erasing import erase_objects, erase_thumbnails
from visualindex_serving.folding import fold_if_due
from visualindex_serving.index_service import IndexService
from visualindex_serving.metrics import Metrics
from visualindex_serving.pinning import Pinning
from visualindex_serving.rerank_trials import measure_if_due
from visualindex_serving.schedules import ask_what_is_due
from visualindex_serving.sweeping import sweep_if_due

logger = logging.getLogger(__name__)

_PERIOD_S = 10.0
_ADVANCE_S = 1.0
_ABANDONED_PERIOD_S = 600.0
"""How often to look for generations that were never proposed: a listing of the object store, and seldom more."""
_QUIET_S = 60.0
"""Objects of a retired generation outlive it by that much, for replicas that are just reading them."""


class Maintenance:
    """A background task. Its steps are bounded and safe to run in several gateways at once."""

    def __init__(self, catalog: Catalog, indexes: list[IndexService], metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._pinning = Pinning(catalog)
        self._indexes = {index.name: index for index in indexes}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin in the background."""
        made = (self._retire, self._forget_vectors, self._fold, self._measure, self._sweep, self._schedule)
        told = (self._tell_refused, self._tell_checks, self._tell_shadows)
        steps = (self._erase, self._forget, self._trim, self._prune, *made, *told)
        self._tasks = [
            asyncio.create_task(self._run(_PERIOD_S, *steps), name="maintenance"),
            asyncio.create_task(self._run(_ABANDONED_PERIOD_S, self._retire_abandoned), name="abandoned"),
            asyncio.create_task(self._run(_ADVANCE_S, self._advance), name="activations"),
        ]

    async def close(self) -> None:
        """Stop; an interrupted round is taken up by the next."""
        await ended(self._tasks)

    async def _run(self, period_s: float, *steps: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            for step in steps:
                await self._attempt(step)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except ProblemError as problem:
            logger.warning(
                "maintenance: %s will be tried again: %s", step.__name__.strip("_"), problem.detail
            )
        except Exception:
            logger.exception("maintenance: %s failed and will be tried again", step.__name__.strip("_"))

    async def _erase(self) -> None:
        async def erase(index: str, digest: bytes) -> None:
            await erase_objects(self._indexes[index], digest)

        await self._catalog.sweep_erasures(erase, self._indexes)

    async def _forget(self) -> None:
        async def erase_again(index: str, digest: bytes) -> None:
            await erase_thumbnails(self._indexes[index], digest)

        await self._catalog.forget_erasures(erase_again, self._indexes)

    async def _trim(self) -> None:
        for name in self._indexes:
            await self._catalog.trim_log(name)
            await self._catalog.prune_replicas(name)

    async def _prune(self) -> None:
        for name, index in self._indexes.items():
            await forget_old_jobs(self._catalog, index.store, name)
            await self._catalog.forget_questions(name)
            kept = [one.name for one in index.resource.spec.reindex.schedules]
            await self._catalog.forget_schedules(name, kept)
            await self._catalog.prune_search_logs(name, index.resource.spec.search_log.retention_days)
        await self._catalog.prune_idempotency()

    async def _advance(self) -> None:
        for name, index in self._indexes.items():
            spec = index.resource.spec
            if not is_settled(index.encoders.records):
                await self._catalog.settle_encoders(name)
            if spec.generation is not None:
                await self._pinning.hold(name, spec.generation)
            await advance(self._catalog, name, spec.index.shards)

    async def _retire(self) -> None:
        for name, index in self._indexes.items():
            await self._catalog.retire_generations(name, index.resource.spec.index.keep_generations)
            old, kept = await self._catalog.retired_generations(name, _QUIET_S)
            for generation in old:
                async with self._catalog.publishing_turn(name):
                    await retire(index.store, name, generation, kept)
                await self._catalog.forget_generation(name, generation)

    async def _retire_abandoned(self) -> None:
        for name, index in self._indexes.items():
            for generation in await retire_abandoned(self._catalog, index.store, name):
                logger.warning("generation %s of index %s was never proposed: deleted", generation, name)

    async def _forget_vectors(self) -> None:
        for name, index in self._indexes.items():
            if any(one.state == "leaving" for one in index.encoders.records):
                await self._catalog.forget_vectors(name)

    async def _fold(self) -> None:
        for index in self._indexes.values():
            await fold_if_due(self._catalog, index.resource)

    async def _measure(self) -> None:
        for index in self._indexes.values():
            if index.encoders.own.fingerprint == index.fingerprint:  # the job opens the spec's encoder
                await measure_if_due(self._catalog, index.resource, index.reranking.features)

    async def _sweep(self) -> None:
        for index in self._indexes.values():
            await sweep_if_due(self._catalog, index.resource)

    async def _tell_checks(self) -> None:
        for name in self._indexes:
            last = await self._catalog.last_check(name)
            if last is not None:
                self._metrics.check(name, last.report, last.checked_at)

    async def _tell_shadows(self) -> None:
        for name, index in self._indexes.items():
            overlap = None if index.shadowing is None else index.shadowing.overlap
            self._metrics.shadow_overlap.set(-1.0 if overlap is None else overlap, tags={"index": name})

    async def _schedule(self) -> None:
        for index in self._indexes.values():
            await ask_what_is_due(self._catalog, index.resource)

    async def _tell_refused(self) -> None:
        for name in self._indexes:
            newest = (await self._catalog.list_generations(name))[:1]
            self._metrics.refused.set(float(any(map(is_refused, newest))), tags={"index": name})


def is_settled(encoders: Sequence[EncoderRecord]) -> bool:
    """Whether an index has the one encoder that it is searched with, or none was looked at yet."""
    return all(one.state == "required" and one.searched for one in encoders)


async def forget_old_jobs(catalog: Catalog, store: ObjectStore, index: str, keep_days: int = 90) -> None:
    """Forget jobs that ended long ago, each after all that it left in the object store: ledgers, lists of refused entries.

    What is left when this process ends meanwhile is found again, because the job is forgotten last.
    """
    until = time.monotonic() + _PERIOD_S
    for job_id in await catalog.old_jobs(index, keep_days):
        prefix = job_prefix(index, str(job_id))
        _, whole = await erase_prefix(store, prefix, in_time=lambda: time.monotonic() < until)
        if not whole:
            return
        await catalog.forget_job(index, job_id)


def is_refused(record: GenerationRecord) -> bool:
    """Whether it waits for somebody to look at what the quality gate said of it."""
    return record.state == "ready" and record.refused
