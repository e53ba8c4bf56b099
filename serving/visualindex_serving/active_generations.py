"""Which generation of each index searches are pinned to, and which encoder's vectors it holds.

Postgres says so, and is asked several times a second: both change in one moment.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from visualindex.catalog.generations import Searchable
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.ending import ended
from visualindex_serving.shard_view import LIVE

logger = logging.getLogger(__name__)

Ask = Callable[[Collection[str]], Awaitable[Mapping[str, Sequence[Searchable]]]]
"""What the given indexes can be searched with, the active generation of each first; those without vectors are missing."""

_LOOK_S = 0.25


class ActiveGenerations:
    """What was last heard. While the database is away, that goes on to hold."""

    def __init__(self, ask: Ask, indexes: Collection[str]) -> None:
        self._ask = ask
        self._indexes = list(indexes)
        self._known: dict[str, Sequence[Searchable]] = {}
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

    def of(self, index: str, fingerprint: str | None = None) -> Searchable:
        """What searches of an index are to see; with `fingerprint` the latest of that encoder's vectors, if there is one.

        Raises ProblemError UNAVAILABLE for an index that was not heard of yet.
        """
        known = self._known.get(index)
        if not known:
            detail = f"Index {index} is not registered in the catalog yet; try again."
            raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)
        alike = [one for one in known if one.fingerprint == fingerprint]
        found = (alike or known)[0]
        return found if found.generation else replace(found, generation=LIVE)

    async def refresh(self) -> None:
        """Ask now. Raises ProblemError when the database cannot be asked."""
        self._known = dict(await self._ask(self._indexes))

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
