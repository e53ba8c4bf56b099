"""Chunks made in the job's own process: while one is encoded the next is fetched and decoded."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

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
T = TypeVar("T")


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
        fetching = time.pthread_getcpuclockid(threading.get_ident())
        apart = partial(time.clock_gettime, fetching)
        front = BatchEncoder(tools.encoder, tools.packing, plan.recipe.batch, apart=apart)
        under_way: set[asyncio.Task[Any]] = set()

        def begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
            task = asyncio.create_task(work)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            return task

        try:
            upcoming = [begin(self._prepare(preparer, plan, chunk)) for chunk in chunks[:1]]
            for place, chunk in enumerate(chunks):
                prepared = await upcoming.pop()
                upcoming = [
                    begin(self._prepare(preparer, plan, one)) for one in chunks[place + 1 : place + 2]
                ]
                making = begin(self._finish(plan, chunk, prepared, front))
                if place:  # whoever commits the one before need not keep the encoder waiting
                    yield chunks[place - 1]
                await making
            if chunks:
                yield chunks[-1]
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            front.shut()

    async def _finish(self, plan: Plan, chunk: int, prepared: Prepared, front: BatchEncoder) -> None:
        logger.info("encoding chunk %d of plan %s", chunk, plan.name)
        gpus = self._resource.spec.encoder.num_gpus
        done = await asyncio.to_thread(finish, prepared, front, gpus)
        await self._ledger.put_done(plan.name, chunk, done)

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
