"""The one generation that a replica is loading, in a task of its own: whoever looks after all of them goes on meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from visualindex_serving.ending import ended

logger = logging.getLogger(__name__)


class OneLoad:
    """One at a time: each takes a connection to the database, memory and the line to the object store."""

    def __init__(self) -> None:
        self._name = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str | None:
        """What is being loaded now."""
        return None if self._task is None or self._task.done() else self._name

    def begin(self, name: str, load: Callable[[], Awaitable[None]]) -> None:
        """Load it in the background; whatever was loaded before has ended."""
        self._name, self._task = name, asyncio.create_task(_logged(name, load), name=f"load {name}")

    async def stop(self) -> None:
        """Break the load off, and return when it has let go of what it held."""
        if self._task is not None:
            await ended([self._task])


async def _logged(name: str, load: Callable[[], Awaitable[None]]) -> None:
    try:
        await load()
    except Exception:
        logger.exception("generation %s will be loaded again", name)
