"""A share of the searches, asked once more of the active generation and of a candidate, for comparison alone.

A search is offered after its answer is made and never waits. It is repeated at the lowest priority, with both generations
under the same conditions and at the same point of the change log; one may wait while one is compared, the others are passed
over, so that a gateway has one such search under way at most.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from visualindex.catalog import Catalog, Shadow, ShadowQuery
from visualindex.errors import ProblemError, ProblemType
from visualindex.gate.shadow import Answered, compared
from visualindex_serving.ending import ended
from visualindex_serving.fanout import Fanout, Merged
from visualindex_serving.messages import ShardQuery

logger = logging.getLogger(__name__)

_HALF = 0.5
_LOOK_S = 1.0
_DEADLINE_S = 5.0
_LATEST = 200
Outcome = Literal["compared", "unanswered", "passed"]
Count = Callable[[Outcome], None]


@dataclass(frozen=True)
class Seen:
    """A search that was answered, as shards are asked; its name in the answer, and the image it was made with, if any."""

    query: ShardQuery
    query_id: UUID
    image_id: UUID | None


class Shadowing:
    """Of one index in one gateway: a task in the background."""

    def __init__(
        self,
        catalog: Catalog,
        index: str,
        shards: Fanout,
        count: Count = lambda _: None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`count` is told what became of each sampled search; one is sampled when `chance` comes out below the share."""
        self._catalog = catalog
        self._index = index
        self._shards = shards
        self._count = count
        self._chance = chance
        self._shadow: Shadow | None = None
        self._pending: asyncio.Queue[Seen] = asyncio.Queue(1)
        self._compared: list[ShadowQuery] = []
        self._overlaps: deque[float] = deque(maxlen=_LATEST)
        self._look_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name=f"shadow {self._index}")

    async def close(self) -> None:
        """Stop; what was not handed in yet is forgotten."""
        if self._task is not None:
            await ended([self._task])

    @property
    def overlap(self) -> float | None:
        """Mean overlap of the latest searches; None without a shadow, or without a search."""
        return sum(self._overlaps) / len(self._overlaps) if self._overlaps else None

    def wants(self) -> bool:
        """Whether the search that was just answered is to be compared: by chance, while there is a shadow."""
        return self._shadow is not None and self._chance() < self._shadow.share

    def take(self, seen: Seen) -> None:
        """Compare it as soon as the one before is done, unless another one waits for that already. Returns at once."""
        try:
            self._pending.put_nowait(seen)
        except asyncio.QueueFull:
            self._count("passed")

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except ProblemError as problem:
                logger.info("a shadow of index %s waits: %s", self._index, problem.detail)
            except Exception:
                logger.exception("a sampled search of index %s could not be compared", self._index)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._look_at:
            self._look_at = loop.time() + _LOOK_S
            await self._look()
        seen = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._look_at):
                seen = await self._pending.get()
        if seen is not None and self._shadow is not None:
            await self._compare(self._shadow, seen)

    async def _look(self) -> None:
        """Hand in what was compared, and hear which candidate to ask, if any."""
        if self._shadow is not None and self._compared:
            done, self._compared = self._compared, []
            await self._catalog.note_shadow_queries(self._index, self._shadow, done)
        shadow = await self._catalog.live_shadow(self._index)
        if shadow != self._shadow:
            self._overlaps.clear()
            self._shadow = shadow

    async def _compare(self, shadow: Shadow, seen: Seen) -> None:
        """Ask one after the other, in an order of chance: whoever comes second finds caches filled."""
        order = [shadow.against, shadow.generation]
        if self._chance() < _HALF:
            order.reverse()
        answers = {name: await self._answered(seen.query, name) for name in order}
        active, candidate = answers[shadow.against], answers[shadow.generation]
        if active is None:
            return
        one = compared(seen.query_id, seen.image_id, active, candidate)
        self._compared.append(one)
        self._count("unanswered" if candidate is None else "compared")
        if one.overlap is not None:
            self._overlaps.append(one.overlap)

    async def _answered(self, query: ShardQuery, generation: str) -> Answered | None:
        """What a generation answers; None where not every shard did in time.

        Raises ProblemError CONFLICT where a shard does not have it: one that has just begun says nothing of a candidate.
        """
        asked = replace(query, generation=generation, background=True, deadline=time.time() + _DEADLINE_S)
        try:
            merged = await self._shards.search(asked)
        except ProblemError as problem:
            if problem.type is ProblemType.CONFLICT:
                raise
            return None
        return Answered(merged.hits, _slowest_ms(merged)) if merged.complete else None


def _slowest_ms(merged: Merged) -> float:
    return max(report.answer.cpu_ms for report in merged.reports if report.answer is not None)
