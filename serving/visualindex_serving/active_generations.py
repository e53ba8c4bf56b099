"""Which generation of each index searches are pinned to: Postgres says so, and is asked several times a second."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from visualindex.errors import ProblemError
from visualindex_serving.ending import ended
from visualindex_serving.shard_view import LIVE

logger = logging.getLogger(__name__)

Ask = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]
"""The active generations of the given indexes; those without one are missing."""

_LOOK_S = 0.25


class ActiveGenerations:
    """What was last heard. While the database is away, that goes on to hold."""

    def __init__(self, ask: Ask, indexes: Collection[str]) -> None:
        self._ask = ask
        self._indexes = list(indexes)
        self._active: dict[str, str] = {}
        self._reachable = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hear once, and go on in the background."""
        await self.refresh()
        self._task = asyncio.create_task(self._look(), name="active-generations")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await ended([self._task])

    def of(self, index: str) -> str:
        """The generation that searches of an index are to see."""
        return self._active.get(index, LIVE)

    async def refresh(self) -> None:
        """Ask now. Raises ProblemError when the database cannot be asked."""
        self._active = dict(await self._ask(self._indexes))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.refresh()
            except ProblemError as exc:
                if self._reachable:
                    logger.warning("the active generations cannot be read for now: %s", exc)
                self._reachable = False
            else:
                self._reachable = True
