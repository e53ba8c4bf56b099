"""Records are remembered before searches need them, where those of the whole index fit into a gateway's memory."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from visualindex.catalog import Page
from visualindex.errors import ProblemError
from visualindex_serving.ending import ended
from visualindex_serving.records import KEPT_S, Records

logger = logging.getLogger(__name__)

List = Callable[[str | None, int], Awaitable[Page]]
"""Lists an index's images, newest first: from a cursor, so many."""

_PAGE = 100
"""Images that are read at once: few enough that a search that comes meanwhile does not notice."""
_PERIOD_S = 10.0
_WHOLE_S = KEPT_S * 0.4
_SHARE = 0.2
"""Of the time at most is spent on it."""


class ReadAhead:
    """A background task that reads an index's records, newest first: new ones every ten seconds, all before they age.

    It ends for good once they do not fit: what searches ask for is then the better choice of what to keep.
    """

    def __init__(self, name: str, listed: List, records: Records) -> None:
        self._name = name
        self._listed = listed
        self._records = records
        self._whole_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name=f"records of {self._name}")

    async def close(self) -> None:
        """Stop."""
        await ended([self._task] if self._task is not None else [])

    async def _run(self) -> None:
        fits = True
        while fits:
            try:
                fits = await self.look()
            except ProblemError as problem:
                logger.info(
                    "index %s: records are read ahead when that is possible again: %s", self._name, problem
                )
            await asyncio.sleep(_PERIOD_S)
        about = "index %s: not all records fit into gateway.recordCache; those that were last needed are kept"
        logger.info(about, self._name)

    async def look(self) -> bool:
        """Read what is new, or all where that is due; False when there is no room for it."""
        began = time.monotonic()
        whole = began - self._whole_at >= _WHOLE_S
        cursor: str | None = None
        while True:
            start = time.monotonic()
            page = await self._listed(cursor, _PAGE)
            old = not whole and self._records.holds(page.images)
            if not self._records.hold(page.images):
                return False
            cursor = page.cursor
            if old or cursor is None:
                break
            await asyncio.sleep((time.monotonic() - start) * (1 / _SHARE - 1))
        if whole:
            self._whole_at = began
        return True
