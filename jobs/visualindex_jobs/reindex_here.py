"""Chunks made in the job's own process: while one is encoded the next is fetched and decoded."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol, Self

from visualindex.credentials import Credentials
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodePool
from visualindex.reindexing import (
    BatchEncoder,
    Ledger,
    Plan,
    Prepared,
    Preparer,
    Recipe,
    finish,
    hardware_of,
    measured_batch,
)
from visualindex.spec import Spec, VisualIndex
from visualindex_jobs.encoder_tools import EncoderTools

logger = logging.getLogger(__name__)


class Conveyor(Protocol):
    """Makes the chunks of a plan."""

    async def choose(self) -> Recipe:
        """How a job that begins now is to encode."""

    def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        """Make those chunks and tell of each once it is in the ledger. Raises ProblemError CONFLICT on other hardware."""


class Here:
    """A conveyor of one process. The model is loaded when it is first needed."""

    def __init__(
        self,
        resource: VisualIndex,
        ledger: Ledger,
        cache_dir: Path,
        *,
        threads: int,
        access: Credentials | None = None,
    ) -> None:
        self._resource = resource
        self._ledger = ledger
        self._cache_dir = cache_dir
        self._threads = threads
        self._access = access
        self._tools: EncoderTools | None = None
        self._pool: DecodePool | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            await self._pool.close()
        if self._tools is not None:
            self._tools.encoder.close()

    async def choose(self) -> Recipe:
        """Measure the batch, unless the spec says one."""
        tools = await self._opened(self._threads)
        return await asyncio.to_thread(chosen, self._resource.spec, tools)

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        """See `Conveyor`."""
        refuse_other_hardware(plan, self._resource.spec)
        tools = await self._opened(plan.recipe.threads)
        preparer = await self._preparer(tools)
        front = BatchEncoder(tools.encoder, tools.packing, plan.recipe.batch)
        upcoming: asyncio.Task[Prepared] | None = None
        try:
            for place, chunk in enumerate(chunks):
                upcoming = upcoming or asyncio.create_task(self._prepare(preparer, plan, chunk))
                prepared = await upcoming
                following = chunks[place + 1 : place + 2]
                upcoming = (
                    asyncio.create_task(self._prepare(preparer, plan, following[0])) if following else None
                )
                logger.info("encoding chunk %d of plan %s", chunk, plan.name)
                done = await asyncio.to_thread(finish, prepared, front, self._resource.spec.encoder.num_gpus)
                await self._ledger.put_done(plan.name, chunk, done)
                yield chunk
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.gather(upcoming, return_exceptions=True)
            front.shut()

    async def _prepare(self, preparer: Preparer, plan: Plan, chunk: int) -> Prepared:
        return await preparer.prepare(await self._ledger.todo(plan.name, chunk))

    async def _opened(self, threads: int) -> EncoderTools:
        if self._tools is None:
            opening = (self._resource, self._cache_dir, self._access, threads)
            self._tools = await asyncio.to_thread(EncoderTools.open, *opening)
        return self._tools

    async def _preparer(self, tools: EncoderTools) -> Preparer:
        workers = self._resource.spec.reindex.decode_workers
        if self._pool is None:
            self._pool = DecodePool(workers, self._resource.spec.limits)
            await self._pool.start()
        return Preparer(self._ledger, self._resource.name, self._pool, workers, tools.encoder.input)


def chosen(spec: Spec, tools: EncoderTools) -> Recipe:
    """The recipe of a job that begins on this machine. Blocks while it measures."""
    batch = spec.reindex.batch_size
    if batch is None:
        batch = measured_batch(tools.encoder, tools.packing, spec.encoder.max_batch_size)
    features = None if tools.packing is None else tools.packing.fingerprint
    hardware = hardware_of(spec.encoder)
    return Recipe(tools.encoder.fingerprint, features, batch, hardware, tools.encoder.threads)


def refuse_other_hardware(plan: Plan, spec: Spec) -> None:
    """Raises ProblemError CONFLICT where this machine would give other bits than the one that the job began on."""
    here, there = hardware_of(spec.encoder), plan.recipe.hardware
    if here != there:
        detail = (
            f"the job began on {there} and goes on on {here}, whose vectors differ in the last bits: run it on such "
            "machines again, or cancel it and ask anew"
        )
        raise ProblemError(ProblemType.CONFLICT, detail)
