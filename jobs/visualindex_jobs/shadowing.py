"""Having a candidate answer a share of the live searches beside the active generation, and waiting for what comes of it.

Gateways ask and compare; the job holds the shadow open, says when shards are ready for it, and sums up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from visualindex.api.gate import ShadowReport
from visualindex.catalog import (
    LEASE_S,
    Catalog,
    Fence,
    GenerationRecord,
    everywhere,
    unloadable,
)
from visualindex.gate.shadow import Ended, summed_up
from visualindex.reindexing import patiently
from visualindex.spec import ShadowSpec, VisualIndex
from visualindex_jobs.lease import Lease

_LOOK_S = 1.0
_LOAD_S = 900.0
"""Seconds in which every replica must have loaded the candidate."""
T = TypeVar("T")


class Shadowing:
    """One shadow of one job."""

    def __init__(
        self,
        catalog: Catalog,
        resource: VisualIndex,
        generation: str,
        terms: ShadowSpec,
        fence: Fence,
        lease: Lease,
        *,
        for_s: float | None = None,
    ) -> None:
        """`for_s` takes the place of the minutes in `terms`."""
        self._catalog = catalog
        self._resource = resource
        self._name = resource.name
        self._generation = generation
        self._terms = terms
        self._fence = fence
        self._lease = lease
        self._for_s = 60.0 * terms.for_minutes if for_s is None else for_s

    async def run(self) -> ShadowReport:
        """Wait until enough searches were compared, or time is over; the report is kept with the generation.

        Raises ProblemError CONFLICT when the candidate is not `ready`, nothing is active or the job is not the caller's,
        `visualindex.ann.graph.Abandoned` when the job was cancelled, and what the database answers when it stays away.
        """
        record = await self._catalog.get_generation(self._name, self._generation)
        strange = await self._strange(record)
        if strange is not None:
            report = summed_up(self._generation, None, self._terms, "impossible", problem=strange)
            await self._end(report)
            return report
        terms = self._terms.share, self._fence, LEASE_S
        begin = partial(self._catalog.begin_shadow, self._name, self._generation, *terms)
        active = await self._patiently(begin)
        kept: ShadowReport | None = None
        try:
            kept = await self._waited(active)
            return kept
        finally:
            await self._end(kept)

    async def _strange(self, record: GenerationRecord) -> str | None:
        """Why searches cannot be asked of it: their vectors are those of another encoder."""
        index = await self._catalog.get_index(self._name)
        if index is None or index.fingerprint == record.fingerprint:
            return None
        return (
            f"generation {record.generation} has vectors of encoder {record.fingerprint}, and the service encodes searches "
            f"with {index.fingerprint}: it cannot be asked what users ask; the gate's other measures hold"
        )

    async def _waited(self, active: str) -> ShadowReport:
        asked = time.monotonic()
        while True:
            self._lease.check()
            renew = partial(self._catalog.renew_shadow, self._name, self._fence, LEASE_S)
            progress = await self._patiently(renew)
            if progress is None:
                over = "a generation was activated, or another candidate took its place, before it was over"
                return summed_up(self._generation, active, self._terms, "overtaken", problem=over)
            if progress.begun_at is None:
                problem = await self._loading(time.monotonic() - asked)
                if problem is not None:
                    return summed_up(self._generation, active, self._terms, "impossible", problem=problem)
                self._lease.say("shadow: shards load the candidate", 0, self._terms.min_queries)
            else:
                self._lease.say("shadow: comparing live searches", progress.queries, self._terms.min_queries)
                if progress.queries >= self._terms.min_queries:
                    return await self._summed_up(active, "enough", progress.begun_at)
                if progress.elapsed_s >= self._for_s:
                    return await self._summed_up(active, "time", progress.begun_at)
            await asyncio.sleep(_LOOK_S)

    async def _loading(self, waited_s: float) -> str | None:
        """Begin as soon as all replicas have the candidate; why that cannot be, for people."""
        loads = await self._patiently(partial(self._catalog.replica_loads, self._name))
        problem = unloadable(loads, self._generation)
        if problem is None and everywhere(loads, self._generation, self._resource.spec.index.shards):
            await self._patiently(partial(self._catalog.start_shadow, self._name, self._fence))
        elif problem is None and waited_s > _LOAD_S:
            problem = f"not every replica loaded it within {_LOAD_S:.0f} s"
        return problem

    async def _summed_up(self, active: str, ended: Ended, began_at: datetime) -> ShadowReport:
        queries = await self._patiently(partial(self._catalog.shadow_queries, self._name))
        problem = None if queries else "no search came that could be compared"
        return summed_up(
            self._generation, active, self._terms, ended, queries, began_at=began_at, problem=problem
        )

    async def _end(self, report: ShadowReport | None) -> None:
        document = None if report is None else report.model_dump(mode="json")
        end = partial(self._catalog.end_shadow, self._name, self._generation, self._fence, document)
        await self._patiently(end)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(work, self._resource.spec.reindex.patience_seconds)
